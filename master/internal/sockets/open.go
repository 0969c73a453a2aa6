package sockets

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/ownfile"
)

// maxPath is what fits into a sockaddr_un with its NUL.
const maxPath = 107

// Bind makes the socket and takes the address, but does not listen: a socket that listens takes its share of the
// connections at once, and closing it because the reload has failed would reset them. That the address is taken by
// somebody else is found here all the same.
//
// A Unix socket listens at once: there is nobody whose share it could take, and one that does not listen looks as if its
// process had died.
//
// The happy path, for TCP: socket, setsockopt SO_REUSEADDR, bind.
func Bind(a Addr, mode os.FileMode) (fd int, err error) {
	kind := unix.SOCK_STREAM
	if a.Network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	// Plain TCP, not MPTCP: only that takes SO_ATTACH_REUSEPORT_CBPF.
	fd, err = unix.Socket(a.family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("listen %s: socket: %w", a, err)
	}
	if a.Network == "unix" {
		err = bindUnix(fd, a.Path, mode)
	} else {
		err = bindInet(fd, a)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen %s: %w", a, err)
	}
	return fd, nil
}

func bindInet(fd int, a Addr) error {
	if a.Network == "tcp" {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if a.ReusePort {
		if err := ShareAddress(fd); err != nil {
			return err
		}
	}
	if a.family == unix.AF_INET6 {
		only := 0
		if a.host != "::" {
			only = 1
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("bind", unix.Bind(fd, a.sa))
}

// ShareAddress lets other sockets of this user, that are set so too, bind the address of this one, or one that
// overlaps with it.
func ShareAddress(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// bindUnix takes over the path of a socket that nobody listens on any more, and no other. Of several who try at the same
// time one wins.
func bindUnix(fd int, path string, mode os.FileMode) error {
	short, done, err := shorten(path)
	if err != nil {
		return err
	}
	defer done()
	defer lockPath(path)()
	if err := boundMode(fd, mode); err != nil {
		return err
	}
	sa := &unix.SockaddrUnix{Name: short}
	err = unix.Bind(fd, sa)
	if errors.Is(err, unix.EADDRINUSE) {
		if err = removeStale(path, short); err == nil {
			err = unix.Bind(fd, sa)
		}
	}
	if err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := giveMode(short, mode); err != nil {
		return err
	}
	return os.NewSyscallError("listen", unix.Listen(fd, somaxconn()))
}

// removeStale removes a socket that nobody listens on.
func removeStale(path, short string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return unix.EADDRINUSE
	}
	if fi.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("there is a %s already", ownfile.Kind(fi.Mode()))
	}
	c, err := net.Dial("unix", short)
	if err == nil {
		_ = c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return unix.EADDRINUSE
	}
	return os.Remove(path)
}

// How long a path is waited for that somebody else is just binding: that takes him far less.
const (
	lockLimit = time.Second
	lockPause = time.Millisecond
)

// lockPath keeps others from looking at a path, until unlock. The lock is an abstract socket, of which nothing is left
// when its process dies; whoever holds it for long is not one of us, and does not matter.
func lockPath(path string) (unlock func()) {
	name, err := lockName(path)
	if err != nil {
		return func() {}
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(lockLimit); ; time.Sleep(lockPause) {
		err := unix.Bind(fd, &unix.SockaddrUnix{Name: name})
		if err == nil || !errors.Is(err, unix.EADDRINUSE) || time.Now().After(end) {
			return func() { _ = unix.Close(fd) }
		}
	}
}

// lockName is the same for all ways to write a path.
func lockName(path string) (string, error) {
	var dir unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &dir); err != nil {
		return "", &os.PathError{Op: "stat", Path: filepath.Dir(path), Err: err}
	}
	base := sha256.Sum256([]byte(filepath.Base(path)))
	return fmt.Sprintf("@baton-lock-%x-%x-%x", dir.Dev, dir.Ino, base[:16]), nil
}

// Dial connects to a Unix socket, whatever the length of its path.
func Dial(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	return (&net.Dialer{}).DialContext(ctx, "unix", short)
}

// shorten returns a name for path that fits into a socket address: through a descriptor of its folder if need be.
func shorten(path string) (short string, done func(), err error) {
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	short = fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path))
	if len(short) > maxPath {
		_ = unix.Close(dir)
		return "", nil, fmt.Errorf("the last part of the path has %d bytes, too many for a socket", len(filepath.Base(path)))
	}
	return short, func() { _ = unix.Close(dir) }, nil
}

// Listen makes a bound socket listen. The backlog is the system's limit.
func Listen(fd int) error {
	if err := unix.Listen(fd, somaxconn()); err != nil {
		return fmt.Errorf("listen %s: %w", Local(fd), err)
	}
	return nil
}

// Listens reports whether somebody may connect to a socket.
func Listens(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && v != 0
}

func somaxconn() int {
	b, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	if err != nil {
		return unix.SOMAXCONN
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n <= 0 {
		return unix.SOMAXCONN
	}
	return n
}

// String is the address as a person writes it.
func (a Addr) String() string {
	if a.Network == "unix" {
		return "unix:" + a.Path
	}
	return net.JoinHostPort(a.host, strconv.Itoa(a.port))
}
