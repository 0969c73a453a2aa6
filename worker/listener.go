package worker

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

// listener is a shared listening socket as a worker holds it: it opens at GO and stops at the drain.
//
// The socket is wrapped only at GO. Before that it may not listen yet, and a process that polls it takes part in
// the wake-ups of every connection.
type listener struct {
	env  *Env
	addr net.Addr

	mu     sync.Mutex
	fd     int          // raw, before GO
	ln     net.Listener // after GO
	ending bool         // accept what comes until the grace ends, then what is queued, then close
	grace  time.Time
	closed bool

	interrupted bool          // Accept is to return
	interrupts  chan struct{} // closed with interrupted

	done chan struct{} // closed with closed or ending
}

// newListener takes fd. It is -1 if the drain began before anybody asked for the listener, which is closed then.
func newListener(env *Env, fd int) *listener {
	l := &listener{env: env, fd: fd, addr: localAddr(fd), done: make(chan struct{}), interrupts: make(chan struct{})}
	if fd < 0 {
		l.closed = true
		close(l.done)
	}
	return l
}

func localAddr(fd int) net.Addr {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return &net.TCPAddr{}
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	}
	return &net.TCPAddr{}
}

// Accept waits for GO and then for a connection. A drain makes it return net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.env.granted:
	case <-l.done:
	}
	ln, err := l.open()
	if err != nil {
		return nil, err
	}
	for tries := 0; ; {
		if l.isInterrupted() {
			return nil, errInterrupted
		}
		if !l.isEnding() { // or what is queued would be lost
			l.env.gate.awaitRoom(l, ln)
		}
		c, err := l.accept(ln)
		switch {
		case err == nil:
			return c, nil
		case outOfResources(err):
			l.env.gate.awaitFiles(l, ln, err, tries)
			tries++
		case l.isInterrupted():
			return nil, errInterrupted
		case !l.isEnding():
			return nil, l.explain(err)
		}
	}
}

// accept waits for a connection, or when the listener's grace has passed takes one that is queued.
func (l *listener) accept(ln net.Listener) (net.Conn, error) {
	if l.isOver() {
		return l.acceptQueued(ln)
	}
	return ln.Accept()
}

// signals are closed when the drain begins and when Accept is to return. After the first of them nothing more is said.
func (l *listener) signals() (done, interrupts <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ending {
		return nil, nil
	}
	return l.done, l.interrupts
}

func (l *listener) explain(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	return err
}

// isOver reports whether the listener is ending and its grace has passed.
func (l *listener) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ending && !l.closed && !time.Now().Before(l.grace)
}

func (l *listener) isEnding() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ending && !l.closed
}

// open wraps the socket, once.
func (l *listener) open() (net.Listener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	if l.ln != nil {
		return l.ln, nil
	}
	ln, err := fileListener(l.fd)
	l.fd = -1
	if err != nil {
		l.closed = true
		return nil, err
	}
	l.ln = ln
	if l.ending {
		setDeadline(ln, l.grace)
	}
	return ln, nil
}

// fileListener makes a listener of fd, which it takes. net.FileListener dups.
func fileListener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "listener")
	defer func() { _ = f.Close() }()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("listener: %w", err)
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path is the keeper's
	}
	return ln, nil
}

// acceptQueued takes one connection without waiting; when there is none, the listener is closed. net's Accept
// cannot be asked that: a deadline in the past makes it fail before it looks.
func (l *listener) acceptQueued(ln net.Listener) (net.Conn, error) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return nil, net.ErrClosed
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, net.ErrClosed
	}
	nfd := -1
	if cerr := raw.Control(func(fd uintptr) {
		for {
			nfd, _, err = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				return
			}
		}
	}); cerr != nil {
		return nil, net.ErrClosed
	}
	if outOfResources(err) && !l.env.isCut() {
		return nil, err
	}
	if err != nil {
		_ = l.Close()
		return nil, net.ErrClosed
	}
	f := os.NewFile(uintptr(nfd), "conn")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	for tries := 0; outOfResources(err) && !l.env.isCut(); tries++ { // it is accepted, and would be lost
		l.env.gate.awaitFiles(l, ln, err, tries)
		c, err = net.FileConn(f)
	}
	if err != nil {
		return nil, fmt.Errorf("listener: %w", err)
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetNoDelay(true)
	}
	return c, nil
}

func outOfResources(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// endGrace is how long a worker goes on accepting on an address that leaves the configuration: handshakes that have begun
// would be lost with the socket.
const endGrace = 250 * time.Millisecond

// drain ends the listener: at once, or with ends when the grace has passed and its queue is empty.
func (l *listener) drain(ends bool, grace time.Duration) {
	if !ends {
		_ = l.Close()
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.ending {
		return
	}
	l.ending, l.grace = true, time.Now().Add(grace)
	close(l.done)
	setDeadline(l.ln, l.grace) // wakes Accept then
}

// Close gives up this process's hold on the socket. It is never shut down: that would hit every holder.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	if !l.ending {
		close(l.done)
	}
	if l.ln != nil {
		return l.ln.Close()
	}
	fd := l.fd
	l.fd = -1
	return unix.Close(fd)
}

// Addr is the socket's own address.
func (l *listener) Addr() net.Addr { return l.addr }
