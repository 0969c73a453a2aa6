package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrMoved is what Read and Write return on a connection that goes on in another process.
var ErrMoved = errors.New("the connection has moved to another process")

// Limits of a connection.
const (
	handshakeLimit = 10 * time.Second
	lingerLimit    = 2 * time.Second // for the client to close, after our last word
)

// A Conn is a connection that a [Process] speaks on. It is a net.Conn that can be handed over to the next generation
// between two messages.
//
// A Conn that a test makes of another net.Conn, as &Conn{Conn: c}, never moves.
//
// Threading: as with any net.Conn, one goroutine may read while others write. Idle is for the one that reads.
type Conn struct {
	net.Conn

	s      *streams
	from   *origin
	socket net.Conn // without encryption
	moved  bool     // from another process

	writing sync.RWMutex // held by all who write, and alone while the connection is offered to others

	mu       sync.Mutex
	idle     bool      // Idle was said, and nothing was read since
	begun    bool      // something was read since Idle
	ended    bool      // the client, or we, have closed
	gone     bool      // another process has it
	deadline time.Time // for reading, as the Process wants it
	poked    time.Time // the one that the socket has instead; zero: none
	leaving  bool      // it is to move, though the worker does not drain
	nextTry  time.Time // to give it away
	stopAt   time.Time // when an idle connection is closed
}

// Idle says that the Process is between two messages: whatever was read is answered, nothing of a next message is in
// a buffer of the Process, and nobody writes before the next Read has returned.
//
// If the worker drains before the first byte of the next message is read, that Read gives the connection to the next
// generation and returns [ErrMoved], and the Process returns. Nothing is lost: what the client has sent is still in the
// kernel. A Process that has something in a buffer simply does not call Idle, and may do so after the next message.
//
// If the whole program stops, that Read returns io.EOF after a second.
func (c *Conn) Idle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = true
	if c.begun {
		c.begun = false
		c.s.env.Counters.Active.Add(-1)
		c.s.env.Counters.Requests.Add(1)
	}
}

// Moved reports whether the connection has come from another process, so that a greeting was said already.
func (c *Conn) Moved() bool { return c.moved }

// Read reads from the connection. See Idle.
func (c *Conn) Read(b []byte) (int, error) {
	if c.s == nil {
		return c.Conn.Read(b)
	}
	for {
		if err := c.beforeRead(); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(b)
		if !c.afterRead(n, err) {
			return n, err
		}
	}
}

// beforeRead does what is to be done with an idle connection while draining, and sees to the deadline of the Read.
func (c *Conn) beforeRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch now := time.Now(); {
		case c.gone:
			return ErrMoved
		case !c.idle || !c.s.draining() && !c.leaving:
			c.unpoke()
			return nil
		case c.s.stopping():
			return c.beforeStop(now)
		case !c.from.moves || !c.s.env.Handover().HasTaker(c.from.key):
			c.unpoke()
			return nil
		case now.Before(c.nextTry):
			c.wakeAt(c.nextTry)
			return nil
		}
		c.move() // and look again: it may have taken time
	}
}

// afterRead reports whether the Read is to be done again, because it was only woken up.
func (c *Conn) afterRead(n int, err error) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n > 0:
		c.idle = false
		if !c.begun {
			c.begun = true
			c.s.env.Counters.Active.Add(1)
		}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return !c.poked.IsZero()
	case err != nil:
		c.ended = true
	}
	return false
}

// beforeStop gives an idle connection a moment more, and then ends it unless something has come.
func (c *Conn) beforeStop(now time.Time) error {
	if c.stopAt.IsZero() {
		c.stopAt = now.Add(stopWait)
	}
	switch {
	case now.Before(c.stopAt):
		c.wakeAt(c.stopAt)
	case readable(c.socket):
		c.unpoke()
	default:
		c.ended = true
		c.s.env.Counters.CutConns.Add(1)
		return io.EOF
	}
	return nil
}

// readable reports whether something has come that was not read.
func readable(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, _ = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return n > 0
}

// sendOff has the connection move when it is idle, and reports whether it can.
func (c *Conn) sendOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.ended || c.leaving || !c.from.moves {
		return false
	}
	c.leaving = true
	c.wake()
	return true
}

// poke wakes an idle connection's Read.
func (c *Conn) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake()
}

func (c *Conn) wake() {
	if c.idle && !c.gone {
		c.nextTry = time.Time{}
		c.wakeAt(time.Unix(1, 0))
	}
}

// wakeAt has Read look around at t, unless the Process wants that earlier.
func (c *Conn) wakeAt(t time.Time) {
	if !c.deadline.IsZero() && c.deadline.Before(t) {
		c.unpoke()
		return
	}
	c.poked = t
	_ = c.Conn.SetReadDeadline(t)
}

func (c *Conn) unpoke() {
	if !c.poked.IsZero() {
		c.poked = time.Time{}
		_ = c.Conn.SetReadDeadline(c.deadline)
	}
}

// SetReadDeadline is that of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	if !c.poked.IsZero() && (t.IsZero() || t.After(c.poked)) {
		return nil // ours is earlier; the next Read sees to it
	}
	c.poked = time.Time{}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// Write writes to the connection, unless it has moved.
func (c *Conn) Write(b []byte) (int, error) {
	c.writing.RLock()
	defer c.writing.RUnlock()
	if c.isGone() {
		return 0, ErrMoved
	}
	return c.Conn.Write(b)
}

// ReadFrom writes what it reads from r, without a copy through this process where the kernel can.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	c.writing.RLock()
	defer c.writing.RUnlock()
	if c.isGone() {
		return 0, ErrMoved
	}
	return io.Copy(c.Conn, r)
}

// CloseWrite tells the client that nothing more will come.
func (c *Conn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	if c.isGone() {
		return ErrMoved
	}
	return w.CloseWrite()
}

func (c *Conn) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// Close closes the connection at once. A Process need not: its return does it, with more care.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	return c.Conn.Close() // if it is gone, that is our copy
}

func (c *Conn) handshake() error {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeLimit)
	defer cancel()
	return t.HandshakeContext(ctx)
}

// finish closes the connection. A close with unread bytes sends a reset, which may overtake the last words; so if the
// client has not closed, it is told, and what it still says is dropped.
func (c *Conn) finish() {
	c.mu.Lock()
	linger := !c.ended && !c.gone
	if c.begun {
		c.begun = false
		c.s.env.Counters.Active.Add(-1)
	}
	c.mu.Unlock()
	if linger && c.CloseWrite() == nil {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingerLimit))
		_, _ = io.Copy(io.Discard, c.Conn)
	}
	_ = c.Conn.Close()
}

// cut closes the connection whatever is going on, and counts that.
func (c *Conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || c.ended {
		return
	}
	c.ended = true
	c.s.env.Counters.CutConns.Add(1)
	if c.begun {
		c.s.env.Counters.CutRequests.Add(1)
	}
	_ = c.socket.Close()
}
