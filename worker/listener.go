package worker

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/sock"
)

// listener is a shared listening socket as a worker holds it: it opens at GO and stops at the drain.
//
// The socket is wrapped only at GO. Before that it may not listen yet, and a process that polls it takes part in
// the wake-ups of every connection.
type listener struct {
	env     *Env
	addr    net.Addr
	balance *sock.Balance // nil: no other worker accepts

	mu     sync.Mutex
	fd     int      // raw, before GO
	ln     acceptor // after GO
	ending bool     // accept what comes until the grace ends, then what is queued, then close
	grace  time.Time
	closed bool

	waiting int // Accepts that are in the kernel's hands
	leaving int // ending, because others serve on: how many connections it takes yet, at most

	done chan struct{} // closed with closed or ending
}

// acceptor is what a listener asks of a [sock.Listener].
type acceptor interface {
	net.Listener
	syscall.Conn
	SetDeadline(t time.Time) error
	TryAccept() (net.Conn, error)
	Waiting() bool
}

// newListener takes fd. It is -1 if the drain began before anybody asked for the listener, which is closed then.
func newListener(env *Env, fd int, balance *sock.Balance) *listener {
	l := &listener{env: env, fd: fd, balance: balance, addr: localAddr(fd), done: make(chan struct{})}
	if fd < 0 {
		l.closed = true
		close(l.done)
	}
	return l
}

func localAddr(fd int) net.Addr {
	if sa, err := unix.Getsockname(fd); err == nil {
		return rawfd.Addr(sa, "tcp")
	}
	return &net.TCPAddr{}
}

// Accept waits for GO and then for a connection. A drain makes it return net.ErrClosed.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.env.granted:
	case <-l.done:
	}
	if err := l.awaitListening(); err != nil {
		return nil, err
	}
	ln, err := l.open()
	if err != nil {
		return nil, err
	}
	for tries := 0; ; {
		if !l.isEnding() { // or what is queued would be lost
			l.env.limiter.awaitRoom(l, ln)
		}
		if l.env.isCut() { // there is no use in one more
			_ = l.Close()
			return nil, net.ErrClosed
		}
		c, err := l.accept(ln)
		switch {
		case err == nil:
			return l.env.Counters.Conns.Track(c), nil
		case rawfd.Exhausted(err):
			l.env.limiter.awaitFiles(l, ln, err, tries)
			tries++
		case errors.Is(err, unix.EINVAL) && !l.listens():
			if err := l.awaitListening(); err != nil {
				return nil, err
			}
		case !l.isEnding():
			return nil, l.explain(err)
		}
	}
}

// awaitListening waits until the socket listens. It does from GO on, unless somebody else took its address between bind
// and listen; then this listener waits for the master's word, and the others of the process go on.
func (l *listener) awaitListening() error {
	for {
		again := l.env.listening() // before the look
		if l.listens() {
			return nil
		}
		select {
		case <-again:
		case <-l.done:
			_ = l.Close()
			return net.ErrClosed
		}
	}
}

// listens reports whether somebody may connect to the socket. A closed one is none that does not listen.
func (l *listener) listens() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return true
	}
	listens := true
	look := func(fd int) error {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		listens = err != nil || v != 0
		return err
	}
	if l.ln == nil {
		_ = look(l.fd)
	} else {
		_ = rawfd.Control(l.ln, look)
	}
	return listens
}

// accept waits for a connection, or when the listener's grace has passed takes one that is queued.
func (l *listener) accept(ln acceptor) (net.Conn, error) {
	if l.isOver() {
		return l.acceptQueued(ln)
	}
	l.wait(1)
	defer l.wait(-1)
	return ln.Accept()
}

func (l *listener) wait(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting += n
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
func (l *listener) open() (acceptor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	if l.ln != nil {
		return l.ln, nil
	}
	ln, err := sock.Listen(l.fd, l.balance)
	l.fd = -1
	if err != nil {
		l.closed = true
		return nil, err
	}
	if ln.WakesAll() {
		l.env.warnWakesAll.Do(func() { l.env.Log.Warn("worker: a new connection wakes all workers, not one") })
	}
	l.ln = ln
	if l.ending {
		_ = ln.SetDeadline(l.grace)
	}
	return ln, nil
}

// acceptQueued takes one connection without waiting; when there is none, the listener is closed.
func (l *listener) acceptQueued(ln acceptor) (net.Conn, error) {
	c, err := ln.TryAccept()
	if rawfd.Exhausted(err) && !l.env.isCut() {
		return nil, err
	}
	if err != nil || l.wasLast(ln) {
		_ = l.Close()
	}
	if err != nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

// wasLast reports whether a listener that only leaves has taken what it may have been woken for.
func (l *listener) wasLast(ln acceptor) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaving == 0 {
		return false
	}
	l.leaving--
	return l.leaving == 0 || !ln.Waiting()
}

// endGrace is how long a worker goes on accepting on an address that leaves the configuration: handshakes that have
// begun would be lost with the socket.
const endGrace = 250 * time.Millisecond

// leaveMost is how many connections a listener takes while it leaves. Only this process may have been woken for them.
const leaveMost = 64

// drain ends the listener: at once, or with ends when the grace has passed and its queue is empty.
func (l *listener) drain(ends bool, grace time.Duration) {
	if !ends {
		if !l.leave() {
			_ = l.Close()
			return
		}
		grace = 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.ending {
		return
	}
	l.ending, l.grace = true, time.Now().Add(grace)
	close(l.done)
	if l.ln != nil {
		_ = l.ln.SetDeadline(l.grace) // wakes Accept then
	}
}

// leave reports whether an Accept waits, which alone the kernel may have woken just now: then what is queued is
// taken before the end.
func (l *listener) leave() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == 0 || l.ending {
		return false
	}
	l.leaving = leaveMost
	return true
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

// hasWaiting reports whether a connection waits in the socket.
func (l *listener) hasWaiting() bool {
	l.mu.Lock()
	ln := l.ln
	l.mu.Unlock()
	return ln != nil && ln.Waiting()
}
