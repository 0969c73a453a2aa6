package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/ownfile"
)

// maxPath is what fits into a sockaddr_un with its NUL.
const maxPath = 107

// Unix makes a Unix socket that listens at an absolute path, with this mode.
func Unix(path string, mode os.FileMode) (fd int, err error) {
	a := Addr{network: "unix", path: realPath(path)}
	if fd, err = newSocket(a); err != nil {
		return -1, err
	}
	if err := bindUnix(fd, a.path, mode); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen %s: %w", a, err)
	}
	return fd, nil
}

// bindUnix takes over the path of a socket that nobody listens on any more, and no other. Of several who try at the
// same time one wins.
func bindUnix(fd int, path string, mode os.FileMode) error {
	short, done, err := shorten(path)
	if err != nil {
		return err
	}
	defer done()
	defer lockPath(path)()
	// bind makes the file with this mode, less the umask: at no moment it is open to more.
	if err := unix.Fchmod(fd, uint32(mode.Perm())); err != nil {
		return os.NewSyscallError("fchmod", err)
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
	return os.NewSyscallError("listen", unix.Listen(fd, backlog))
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

// How long to wait for a path that another process is just binding: that takes it far less.
const (
	lockLimit = time.Second
	lockPause = time.Millisecond
)

// lockPath keeps others from taking over a path in the same directory, until unlock. A process that holds the lock for
// long is none of baton's, and does not matter; nor does a directory that nobody may read.
func lockPath(path string) (unlock func()) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(lockLimit); ; time.Sleep(lockPause) {
		err := unix.Flock(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK || time.Now().After(end) {
			return func() { _ = unix.Close(dir) }
		}
	}
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

// shorten returns a name for path that fits into a socket address: through a descriptor of its directory if need be.
func shorten(path string) (short string, done func(), err error) {
	if len(path) <= maxPath {
		return path, func() {}, nil
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	base := filepath.Base(path)
	short = fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)
	if len(short) > maxPath {
		_ = unix.Close(dir)
		return "", nil, fmt.Errorf("the last part of the path has %d bytes, too many for a socket", len(base))
	}
	return short, func() { _ = unix.Close(dir) }, nil
}

// giveMode adds what the umask has taken away. Somebody else may have put something else at the path by now: that is
// left alone, and no link is followed.
func giveMode(path string, mode os.FileMode) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("the socket was replaced by something else as soon as it was there")
	}
	if st.Mode&0o777 == uint32(mode.Perm()) {
		return nil
	}
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}
