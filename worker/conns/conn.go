package conns

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrMoved is what Read and Write return on a connection that goes on in another process.
var ErrMoved = errors.New("the connection has moved to another process")

// LingerTime bounds how long a closing connection waits for its client to close as well.
const LingerTime = 2 * time.Second

// A Protocol knows what the bytes on a connection mean.
//
// Threading: called with the connection's lock held, from its Read. It must not call the connection.
type Protocol interface {
	// Take is told what was read, and returns how many bytes the reader gets: it may take some out, and so may be none.
	// began reports that a message has begun, of which the rest has a time limit until [Conn.Complete].
	Take(p []byte) (n int, began bool)
	// InBody reports that what is read next is the body of the message that is being answered.
	InBody() bool
}

// A Conn is a connection of an [Engine]. It keeps the time limits, and its Read decides what becomes of it while it
// waits for a message: it is given to another worker, closed, or read from.
//
// Threading: one goroutine at a time reads. Write and the deadlines are as of any net.Conn.
type Conn struct {
	// Stopped, if not nil, is called on a goroutine of its own when the whole program stops and the connection is
	// detached. It is set before.
	Stopped func()
	// Requests are those in progress on a detached connection.
	Requests atomic.Int64

	e     *Engine
	from  *Listener
	proto Protocol // nil: its first byte completes a message
	sock  Socket   // without encryption
	tls   *secured // nil: there is no TLS
	out   sender

	writing sync.RWMutex // held by all writers, and alone while the connection is offered to others
	gone    atomic.Bool  // the phase is moved, for writers

	mu       sync.Mutex
	phase    phase
	wish     wish
	used     bool // a message has begun on it
	peerGone bool // the client has closed, or is given up: there is nothing to linger for
	declined declined
	retry    time.Time // when it is offered again, if it was declined
	clock    clock
}

// wish is what is to become of a connection as soon as it waits for a message.
type wish uint8

const (
	wishNone  wish = iota
	wishLeave      // to move, though the worker does not drain
	wishEvict      // to be closed, unless a message comes: there is no room
)

// declined is why a connection that was offered is still here.
type declined uint8

const (
	declinedNot    declined = iota
	declinedByAll           // nobody has taken it
	declinedForNow          // there was no descriptor to offer it with
)

// conn is what is read and written.
func (c *Conn) conn() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return c.sock
}

// is has an event happen, and reports whether it changes the phase.
func (c *Conn) is(e event) bool {
	to := transitions[c.phase][e]
	if to == none {
		return false
	}
	if from := c.phase; (from == active) != (to == active) {
		d := int64(1)
		if from == active {
			d = -1
		}
		c.e.Counters.Active.Add(d)
	}
	c.phase = to
	if c.wish == wishEvict && !to.waits() {
		c.wish = wishNone
		c.e.evicting.Add(-1)
	}
	return true
}

// Complete is called when a message is complete, and is going to be answered.
func (c *Conn) Complete() { c.happens(completes) }

func (c *Conn) happens(e event) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e == completes {
		c.clock.message = time.Time{}
	}
	return c.is(e)
}

// Greet says that there may be something to be written before the first message: the connection waits for none before
// [Conn.Idle].
func (c *Conn) Greet() { c.happens(greets) }

// Idle says that the connection is between two messages: whatever was read is answered, and nobody writes before the
// next Read has returned. begun says that something of the next message was read already. It reports whether a
// message was answered. With a Protocol the deadline for reading is forgotten.
//
// While the worker drains, or when it is to have fewer connections, that Read may give the connection to another
// worker and return [ErrMoved]: what the client has sent is still in the kernel. If the whole program stops it
// returns io.EOF after a second.
func (c *Conn) Idle(begun bool) (answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answered = c.phase == active
	c.is(done)
	if begun {
		c.is(begins)
	}
	if c.proto != nil {
		c.clock.user = time.Time{}
	}
	return answered
}

// Detach leaves what is read and written, and the deadlines, to the protocol; limited: but for the limit of writes.
func (c *Conn) Detach(limited bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.is(detaches)
	c.clock.user = time.Time{}
	c.clock.arm(c.clock.user)
	if limited {
		c.out.setLimit(c.e.Limits.Send)
	} else {
		c.out.setLimit(0)
	}
}

// Waits reports that the connection has no message that is being answered, and its deadlines are the Engine's.
func (c *Conn) Waits() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase.waits() || c.phase == receiving
}

// Answering reports that a message is complete and being answered.
func (c *Conn) Answering() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == active
}

// Write writes to the connection, unless it has moved.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.RLock()
	defer c.writing.RUnlock()
	if c.gone.Load() {
		return 0, ErrMoved
	}
	if c.tls != nil {
		return c.tls.Write(p)
	}
	return c.out.Write(p)
}

// ReadFrom writes what it reads from r, without a copy through this process where the kernel can. Others may write
// meanwhile.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if c.tls != nil {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	c.writing.RLock()
	defer c.writing.RUnlock()
	if c.gone.Load() {
		return 0, ErrMoved
	}
	return c.out.ReadFrom(r)
}

// CloseWrite tells the client that nothing more will come.
func (c *Conn) CloseWrite() error {
	if c.gone.Load() {
		return ErrMoved
	}
	return c.closeWrite()
}

func (c *Conn) closeWrite() error {
	if c.tls != nil {
		return c.tls.CloseWrite()
	}
	return c.sock.CloseWrite()
}

// SetReadDeadline is that of net.Conn. With a Protocol it does nothing while the connection waits for a message, or
// for the rest of one: then the time limits are the Engine's.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proto == nil || !c.phase.waits() && c.phase != receiving {
		c.clock.setUser(t, c.phase == detached)
	}
	return nil
}

// SetWriteDeadline is that of net.Conn. It replaces the limit of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// LocalAddr is that of the socket.
func (c *Conn) LocalAddr() net.Addr { return c.sock.LocalAddr() }

// RemoteAddr is the client's.
func (c *Conn) RemoteAddr() net.Addr { return c.sock.RemoteAddr() }

// SyscallConn is that of the socket, below TLS.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.sock.SyscallConn() }

// TLS is the state of the connection's TLS, nil without.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	state := c.tls.ConnectionState()
	return &state
}

// Handshake does the TLS handshake, if there is TLS. Any client can make it fail, so that is for debugging.
func (c *Conn) Handshake() error {
	if c.tls == nil {
		return nil
	}
	if err := c.tls.handshake(c.handshakeLimit()); err != nil {
		c.e.Log.Debug("conns: tls handshake failed", "client", c.RemoteAddr(), "error", err)
		return err
	}
	c.out.setLimit(c.e.Limits.Send)
	c.happens(handshook)
	return nil
}

func (c *Conn) handshakeLimit() time.Duration {
	if limit := c.e.WaitLimit(); limit > 0 {
		return min(limit, handshakeTimeout)
	}
	return handshakeTimeout
}

// Linger closes the connection such that what was written arrives. A close with unread bytes sends a reset, which may
// overtake the last words; so if the client has not closed, it is told, and what it still says is dropped, until it
// pauses for too long, or most is over.
func (c *Conn) Linger(pause, most time.Duration) {
	c.mu.Lock()
	gone := c.peerGone || c.out.gaveUp()
	wait := c.is(lingers) && !gone
	c.mu.Unlock()
	if wait && c.CloseWrite() == nil {
		b := make([]byte, 4096)
		for now, end := time.Now(), time.Now().Add(most); now.Before(end); now = time.Now() {
			_ = c.sock.SetReadDeadline(earliest(now.Add(pause), end))
			if _, err := c.conn().Read(b); err != nil {
				break
			}
		}
	}
	_ = c.Close()
}

// Close closes the connection at once. It is counted until then.
func (c *Conn) Close() error {
	c.mu.Lock()
	first := c.is(shuts)
	c.mu.Unlock()
	if !first {
		return net.ErrClosed
	}
	defer c.e.forget(c)
	if c.tls != nil && c.out.gaveUp() {
		c.tls.abort()
	}
	return c.conn().Close()
}

// Abort closes the connection without a word, and reports what that ended.
func (c *Conn) Abort() (requests int64, connection bool) {
	c.mu.Lock()
	switch {
	case c.phase.ends():
	case c.phase == detached:
		requests, connection = c.Requests.Load(), true
	case c.phase.answering():
		requests, connection = 1, true
	default:
		connection = true
	}
	c.mu.Unlock()
	if c.tls != nil {
		c.tls.abort()
	}
	_ = c.Close()
	return requests, connection
}
