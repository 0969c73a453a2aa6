package main

import (
	"context"
	"net"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxSocketPath is how long the path of a Unix socket may be for connect(2).
const maxSocketPath = 107

// dialUnix connects to the socket at path. A path that is too long for the kernel is gone to in two steps:
//
//	openat(AT_FDCWD, "/the/long/directory", O_PATH|O_DIRECTORY) = 7
//	connect(8, "/proc/self/fd/7/baton.sock")
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	if len(path) <= maxSocketPath {
		return d.DialContext(ctx, "unix", path)
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"}, Err: err}
	}
	defer func() { _ = unix.Close(dir) }()
	return d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(dir)+"/"+filepath.Base(path))
}
