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

	"baton/worker/rawfd"
)

// A Listener accepts connections from a listening TCP or Unix socket. As long as no Accept waits, this process is not
// woken for what comes, and keeps no other from being woken.
type Listener struct {
	netListener
	raw     syscall.RawConn
	balance *Balance // nil: no other process accepts

	accepting sync.Mutex     // held by Accept
	exclusive *exclusiveWait // nil: all that wait are woken
	alarm     alarm
}

// netListener is what *net.TCPListener and *net.UnixListener have.
type netListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(t time.Time) error
}

// Listen makes a Listener of fd, which it takes, also when it fails. balance may be nil.
func Listen(fd int, balance *Balance) (*Listener, error) {
	f := os.NewFile(uintptr(fd), "listener")
	if f == nil {
		return nil, fmt.Errorf("listener: %w", unix.EBADF)
	}
	defer func() { _ = f.Close() }()
	ln, err := net.FileListener(f) // a duplicate
	if err != nil {
		return nil, fmt.Errorf("listener: %w", err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // others listen there
	}
	l := &Listener{netListener: ln.(netListener), balance: balance}
	if l.raw, err = l.SyscallConn(); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("listener: %w", err)
	}
	_ = l.raw.Control(func(fd uintptr) { l.exclusive = waitExclusively(int(fd)) })
	balance.join()
	return l, nil
}

// WakesAll reports whether a new connection wakes all processes that wait, as with package net: the runtime's epoll,
// or /proc, is not as this package knows it.
func (l *Listener) WakesAll() bool { return l.exclusive == nil }

// Accept waits for a connection.
func (l *Listener) Accept() (net.Conn, error) {
	l.accepting.Lock()
	defer l.accepting.Unlock()
	l.balance.yield(l.Waiting, l.alarm.sleep)
	var err error
	_ = l.raw.Control(func(fd uintptr) { err = l.exclusive.begin(fd) })
	if err != nil {
		return nil, err
	}
	c, err := l.netListener.Accept()
	_ = l.raw.Control(func(fd uintptr) { _ = l.exclusive.end(fd) })
	if err == nil {
		l.balance.took(currentWindow())
	}
	return c, err
}

// tryTime is how long a TryAccept waits for a connection that was there and that another process has taken.
const tryTime = 10 * time.Millisecond

// TryAccept returns a connection that waits. If there is none its error wraps EAGAIN. It replaces the deadline.
func (l *Listener) TryAccept() (net.Conn, error) {
	for l.Waiting() {
		_ = l.SetDeadline(time.Now().Add(tryTime))
		c, err := l.netListener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
	}
	return nil, os.NewSyscallError("accept", unix.EAGAIN)
}

// Waiting reports whether a connection waits.
func (l *Listener) Waiting() (waiting bool) {
	_ = l.raw.Control(func(fd uintptr) { waiting = Acceptable(fd) })
	return waiting
}

// Acceptable reports whether a connection waits in a listening socket.
func Acceptable(fd uintptr) bool { return rawfd.Polled(int(fd), unix.POLLIN) != 0 }
