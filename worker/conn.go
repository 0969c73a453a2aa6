package worker

import (
	"errors"
	"io"
	"net"

	"baton/worker/conns"
)

// ErrMoved is what Read and Write return on a connection that goes on in another process.
var ErrMoved = conns.ErrMoved

// A Conn is a connection that a [Process] speaks on. It is a net.Conn that can be handed over to the next generation
// between two messages.
//
// A Conn that a test makes of another net.Conn, as &Conn{Conn: c}, never moves.
//
// Close closes the connection at once. A Process need not: its return does it, with more care.
//
// Threading: as with any net.Conn, one goroutine may read while others write. Idle is for the one that reads.
type Conn struct {
	net.Conn // in a worker a *conns.Conn

	requests *RequestCount
	moved    bool // from another process
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
	if e, ok := c.Conn.(*conns.Conn); ok && e.Idle(false) {
		c.requests.Add(1)
	}
}

// Moved reports whether the connection has come from another process, so that a greeting was said already.
func (c *Conn) Moved() bool { return c.moved }

// ReadFrom writes what it reads from r, without a copy through this process where the kernel can.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite tells the client that nothing more will come.
func (c *Conn) CloseWrite() error {
	w, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return w.CloseWrite()
}
