package worker

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
)

// multiListener is a listener on one socket or more: more of them when slots are gone or the address has changed its
// shape, and the kernel still puts connections into the sockets of before.
//
// Each socket has a goroutine that accepts, but only while somebody waits in Accept: what nobody asks for stays in
// the kernel, where other workers may take it. With several sockets, one of them may have a connection for the next
// Accept.
type multiListener struct {
	addr     net.Addr
	accepted chan accepted
	closed   chan struct{}

	mu      sync.Mutex
	asked   sync.Cond     // waiting has become more
	waiting int           // calls of Accept in progress
	calls   int64         // so far
	seen    int64         // calls, at the last beat
	sockets []*listener   // that are accepted on
	changed chan struct{} // closed, and made anew, when one of them has ended
}

type accepted struct {
	conn net.Conn
	err  error
}

func newMultiListener(first *listener) *multiListener {
	m := &multiListener{
		addr: first.Addr(), accepted: make(chan accepted), closed: make(chan struct{}), changed: make(chan struct{}),
	}
	m.asked.L = &m.mu
	m.add(first)
	return m
}

// add makes Accept return connections of l as well.
func (m *multiListener) add(l *listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sockets = append(m.sockets, l)
	go m.acceptOn(l)
}

// Accept waits for a connection on any of the sockets. It returns net.ErrClosed when all of them have ended, and not
// before all that was accepted was returned.
func (m *multiListener) Accept() (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting++
	m.calls++
	m.asked.Broadcast()
	for len(m.sockets) > 0 {
		changed := m.changed
		m.mu.Unlock()
		select {
		case a := <-m.accepted:
			m.mu.Lock()
			return a.conn, a.err
		case <-changed:
		}
		m.mu.Lock()
	}
	m.waiting--
	return nil, net.ErrClosed
}

// acceptOn accepts on one socket, until it ends. What it has accepted it hands over, unless the listener was closed and
// nobody asks any more.
func (m *multiListener) acceptOn(l *listener) {
	defer m.end(l)
	for {
		m.await()
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case m.accepted <- accepted{c, err}:
			m.answered()
		case <-m.closed:
			if c != nil {
				_ = c.Close()
			}
			return
		}
		if err != nil && !temporary(err) {
			return
		}
	}
}

// await waits until somebody asks for a connection.
func (m *multiListener) await() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.waiting == 0 {
		m.asked.Wait()
	}
}

// answered: an Accept has what it has asked for.
func (m *multiListener) answered() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting--
}

func (m *multiListener) end(l *listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sockets = slices.DeleteFunc(m.sockets, func(x *listener) bool { return x == l })
	close(m.changed)
	m.changed = make(chan struct{})
}

func temporary(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && errno.Temporary()
}

// Close gives up this process's hold on all the sockets.
func (m *multiListener) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.closed:
		return net.ErrClosed
	default:
	}
	close(m.closed)
	err := net.ErrClosed
	for _, l := range m.sockets {
		err = l.Close()
	}
	return err
}

// Addr is the first socket's.
func (m *multiListener) Addr() net.Addr { return m.addr }

// stuck reports whether a connection waits and nobody is in Accept, nor was since the last time.
func (m *multiListener) stuck() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.seen
	m.seen = m.calls
	return m.waiting == 0 && m.calls == last && slices.ContainsFunc(m.sockets, (*listener).hasWaiting)
}
