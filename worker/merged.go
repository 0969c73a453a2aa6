package worker

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// merged is a listener on one socket or more: more of them when slots are gone or the address has changed its shape, and
// the kernel still puts connections into the sockets of before. With one socket it costs nothing.
type merged struct {
	first *listener

	mu     sync.Mutex
	extra  []*listener
	direct int           // Accepts that wait on the first socket itself; none once there are pumps, see alone
	alone  *sync.Cond    // direct has become 0
	fan    chan accepted // of the pumps, nil as long as there is one socket
	pumps  int
	added  chan struct{} // closed, and made anew, when a socket has come or a pump has gone
	closed chan struct{}
	once   sync.Once

	loop acceptLoop
}

type accepted struct {
	conn net.Conn
	err  error
}

func newMerged(first *listener) *merged {
	m := &merged{first: first, added: make(chan struct{}), closed: make(chan struct{})}
	m.alone = sync.NewCond(&m.mu)
	return m
}

// add makes Accept return connections of l as well.
func (m *merged) add(l *listener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.extra = append(m.extra, l)
	if m.fan == nil {
		m.fan = make(chan accepted)
		m.pumps++
		m.first.interrupt()
		go m.pumpFirst()
	}
	m.pumps++
	go m.pump(l)
	m.wake()
}

// remove ends what add has begun. The pump stays if it has a connection to hand over, until somebody has taken it.
func (m *merged) remove(l *listener) {
	m.mu.Lock()
	m.extra = slices.DeleteFunc(m.extra, func(x *listener) bool { return x == l })
	m.mu.Unlock()
	_ = l.Close()
}

// wake is called with the lock held.
func (m *merged) wake() {
	close(m.added)
	m.added = make(chan struct{})
}

// Accept waits for a connection on any of the sockets. It returns net.ErrClosed when all of them have ended, and not
// before all that was accepted was returned.
func (m *merged) Accept() (net.Conn, error) {
	m.loop.enter()
	defer m.loop.leave()
	for {
		m.mu.Lock()
		fan, pumps, added := m.fan, m.pumps, m.added
		if fan == nil {
			m.direct++
		}
		m.mu.Unlock()
		if fan == nil {
			if c, ok, err := m.acceptFirst(); ok {
				return c, err
			}
			continue
		}
		if pumps == 0 {
			return nil, net.ErrClosed
		}
		select {
		case a := <-fan:
			return a.conn, a.err
		case <-added:
		}
	}
}

// acceptFirst accepts on the first socket without anybody in between. If others have come meanwhile, its end is not the
// listener's, and ok is false.
func (m *merged) acceptFirst() (c net.Conn, ok bool, err error) {
	c, err = m.first.Accept()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.direct--; m.direct == 0 {
		m.alone.Broadcast()
	}
	over := errors.Is(err, errInterrupted) || m.fan != nil && errors.Is(err, net.ErrClosed)
	return c, !over, err
}

// pumpFirst is the first socket's pump. It begins when no Accept waits there any more: one that did would not see what
// comes to the other sockets.
func (m *merged) pumpFirst() {
	m.mu.Lock()
	for m.direct > 0 {
		m.alone.Wait()
	}
	m.mu.Unlock()
	m.first.resume()
	m.pump(m.first)
}

// pump accepts on one of several sockets, until it ends. What it has accepted it hands over, unless the listener was
// closed and nobody asks any more.
func (m *merged) pump(l *listener) {
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.pumps--
		m.wake()
	}()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case m.fan <- accepted{c, err}:
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

func temporary(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && errno.Temporary()
}

// Close gives up this process's hold on all the sockets.
func (m *merged) Close() error {
	m.once.Do(func() { close(m.closed) })
	m.mu.Lock()
	extra := m.extra
	m.mu.Unlock()
	for _, l := range extra {
		_ = l.Close()
	}
	return m.first.Close()
}

// Addr is the first socket's.
func (m *merged) Addr() net.Addr { return m.first.Addr() }

// errInterrupted is what a listener's Accept returns between interrupt and resume.
var errInterrupted = errors.New("accept interrupted")

// interrupt makes Accept return errInterrupted, those that wait as well.
func (l *listener) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.ending || l.interrupted {
		return
	}
	l.interrupted = true
	close(l.interrupts)
	l.setDeadline(time.Unix(1, 0))
}

// resume ends what interrupt has begun.
func (l *listener) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.interrupted {
		return
	}
	l.interrupted, l.interrupts = false, make(chan struct{})
	if !l.closed && !l.ending {
		l.setDeadline(time.Time{})
	}
}

func (l *listener) isInterrupted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.interrupted && !l.ending && !l.closed
}

// setDeadline is called with the lock held.
func (l *listener) setDeadline(t time.Time) {
	if l.ln != nil {
		_ = l.ln.SetDeadline(t)
	}
}
