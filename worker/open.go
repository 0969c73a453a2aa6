package worker

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
	"baton/worker/sock"
)

// queue is a listener from which one can take what has come, and not wait. Accept cannot be asked that: a deadline in the
// past makes it fail before it looks.
type queue interface {
	// TryAccept's error wraps EAGAIN if nothing has come.
	TryAccept() (net.Conn, error)
}

// openListener makes a listener of fd, which it takes.
func openListener(fd int, addr net.Addr) (net.Listener, error) {
	if _, ok := addr.(*net.TCPAddr); ok {
		return sock.Listen(fd)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer func() { _ = f.Close() }()
	ln, err := net.FileListener(f) // a duplicate
	if err != nil {
		return nil, fmt.Errorf("listener: %w", err)
	}
	u, ok := ln.(*net.UnixListener)
	if !ok {
		return ln, nil
	}
	u.SetUnlinkOnClose(false) // the path is the keeper's
	return &unixListener{UnixListener: u}, nil
}

// unixListener is a listener on a Unix socket.
type unixListener struct {
	*net.UnixListener
	accepted *os.File // by TryAccept, for which there was no descriptor yet; or nil
}

// TryAccept is that of queue.
func (l *unixListener) TryAccept() (net.Conn, error) {
	if l.accepted == nil {
		fd, err := l.tryAccept()
		if err != nil {
			return nil, err
		}
		l.accepted = os.NewFile(uintptr(fd), "conn")
	}
	c, err := net.FileConn(l.accepted)
	if handover.Exhausted(err) {
		return nil, err
	}
	_ = l.accepted.Close()
	l.accepted = nil
	return c, err
}

func (l *unixListener) tryAccept() (fd int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	cerr := raw.Control(func(ln uintptr) {
		for {
			fd, _, err = unix.Accept4(int(ln), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				return
			}
		}
	})
	return fd, errors.Join(cerr, err)
}
