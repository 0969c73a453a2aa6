package sock

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Listener accepts connections from a listening TCP socket. As long as no Accept waits, this process is not woken for
// what comes, and keeps no other from being woken.
type Listener struct {
	file *os.File
	raw  syscall.RawConn
	addr *net.TCPAddr

	accepting sync.Mutex // held by Accept
	turn      *turn      // nil: all who wait are woken
}

// Listen makes a Listener of fd, which it takes, also when it fails.
func Listen(fd int) (*Listener, error) {
	addr, err := nameOf(fd, unix.Getsockname)
	if err == nil {
		err = unix.SetNonblock(fd, true) // or the runtime would not poll it
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("listener: %w", err)
	}
	setOptions(fd)
	l := &Listener{file: os.NewFile(uintptr(fd), "listener"), addr: addr}
	if l.raw, err = l.file.SyscallConn(); err == nil {
		err = l.file.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = l.file.Close()
		return nil, fmt.Errorf("listener: %w", err)
	}
	_ = l.raw.Control(func(fd uintptr) { l.turn = takeTurns(int(fd)) })
	return l, nil
}

// setOptions sets what package net sets on connections. Connections have it from the socket that they come by.
func setOptions(fd int) {
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 9},
	} {
		_ = unix.SetsockoptInt(fd, o.level, o.name, o.value)
	}
}

// Accept waits for a connection. What it returns is a *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	l.accepting.Lock()
	defer l.accepting.Unlock()
	var c net.Conn
	var err error
	look := true // a look is cheaper than an accept that fails
	rerr := l.raw.Read(func(fd uintptr) bool {
		err = l.turn.end(fd)
		if err == nil && look && !Acceptable(fd) {
			err = unix.EAGAIN
		}
		look = false
		if err == nil {
			c, err = l.accept(int(fd))
		}
		if !errors.Is(err, unix.EAGAIN) {
			return true
		}
		err = l.turn.begin(fd)
		return err != nil
	})
	if rerr != nil { // the deadline has come, or it was closed
		_ = l.raw.Control(func(fd uintptr) { _ = l.turn.end(fd) })
		err = rerr
	}
	if err != nil {
		return nil, opError("accept", nil, l.addr, err)
	}
	return c, nil
}

// TryAccept returns a connection that is queued. If there is none its error wraps EAGAIN. It is not stopped by a deadline.
func (l *Listener) TryAccept() (c net.Conn, err error) {
	if cerr := l.raw.Control(func(fd uintptr) { c, err = l.accept(int(fd)) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, opError("accept", nil, l.addr, err)
	}
	return c, nil
}

// accept does not wait.
func (l *Listener) accept(fd int) (net.Conn, error) {
	for {
		nfd, peer, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED) {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("accept4", err)
		}
		var local net.Addr
		if !l.addr.IP.IsUnspecified() {
			local = l.addr
		}
		return newConn(nfd, local, addrOf(peer))
	}
}

// Acceptable reports whether a connection is queued in a listening socket.
func Acceptable(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}

// SetDeadline ends an Accept that waits, now or then.
func (l *Listener) SetDeadline(t time.Time) error { return l.file.SetReadDeadline(t) }

// SyscallConn is the socket.
func (l *Listener) SyscallConn() (syscall.RawConn, error) { return l.raw, nil }

// Close gives up this process's hold on the socket.
func (l *Listener) Close() error {
	if err := l.file.Close(); err != nil {
		return opError("close", nil, l.addr, err)
	}
	return nil
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.addr }
