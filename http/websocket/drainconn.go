package websocket

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"baton/worker/rawfd"
)

const (
	lingerTime   = time.Second     // the client of a connection closed for a violation has to read the reason
	releaseLimit = 5 * time.Second // how long a Read is held for the close to be written
)

// longAgo is the deadline that wakes a Read at once.
var longAgo = time.Unix(1, 0)

// phase is how far the close of a drain has come.
type phase = int32

const (
	phaseOpen    phase = iota
	phaseWanted        // a message boundary is waited for
	phaseHeld          // it is there, and the reader waits: the next write is the close
	phaseWritten       // messages that come are not answered
)

// drainConn is the connection below a WebSocket. It knows its message boundaries: moments at which nothing of a message
// has been received and everything received was answered. The close of a drain is written at one of them.
//
// Threading: one goroutine at a time reads; first the one that answers messages, in the end maybe the one that closes.
type drainConn struct {
	net.Conn
	frames    frames
	violation atomic.Int64 // of the protocol in them, a ws.StatusCode, or 0
	told      atomic.Bool  // the client is, at the next write
	inMessage atomic.Bool  // between the first byte of a message and its answer

	phase    atomic.Int32
	boundary chan struct{} // closed in phaseHeld
	released chan struct{} // closed when the reader may go on
}

func newDrainConn() *drainConn {
	return &drainConn{boundary: make(chan struct{}), released: make(chan struct{})}
}

// hold asks the reader to wait at the next boundary. The channel boundary says when it does.
func (c *drainConn) hold() {
	c.phase.Store(phaseWanted)
	_ = c.SetReadDeadline(longAgo)
}

// giveUp takes hold back.
func (c *drainConn) giveUp() { c.phase.CompareAndSwap(phaseWanted, phaseOpen) }

// closing reports whether the close of a drain is being written, or was.
func (c *drainConn) closing() bool { return c.phase.Load() >= phaseHeld }

// errViolation ends reading at a violation of the protocol.
var errViolation = errors.New("websocket: not what a client may send")

// Read reads up to a violation, and fails there. Once the close has been written it lingers first.
func (c *drainConn) Read(p []byte) (int, error) {
	if c.violation.Load() != 0 {
		if c.told.Load() {
			c.linger()
		}
		return 0, errViolation
	}
	n, err := c.receive(p)
	n, violation := c.frames.follow(p[:n])
	if violation == 0 {
		return n, err
	}
	c.violation.Store(int64(violation))
	if n == 0 {
		return 0, errViolation
	}
	return n, nil
}

// linger drops what comes until the client has closed as well. A close with unread bytes would send a reset, which may
// overtake the reason.
func (c *drainConn) linger() {
	_ = c.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, c.Conn)
}

// receive reads. If it is to wait at a boundary, it does so when there is nothing to be read.
func (c *drainConn) receive(p []byte) (int, error) {
	poll := true
	for {
		if poll && c.atBoundary() {
			_ = c.SetReadDeadline(longAgo)
		}
		n, err := c.Conn.Read(p)
		if n > 0 || c.phase.Load() == phaseOpen || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		_ = c.SetReadDeadline(time.Time{})
		if !c.atBoundary() || unread(c.Conn) || !c.phase.CompareAndSwap(phaseWanted, phaseHeld) {
			poll = false
			continue
		}
		close(c.boundary)
		timer := time.NewTimer(releaseLimit)
		select {
		case <-c.released:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// atBoundary reports whether the reader is to wait here.
func (c *drainConn) atBoundary() bool { return c.phase.Load() == phaseWanted && !c.inMessage.Load() }

// unread reports whether there are bytes that have not been read.
func unread(nc net.Conn) (yes bool) {
	_ = rawfd.Control(nc, func(fd int) error { yes = rawfd.Readable(fd); return nil })
	return yes
}

// Write writes, and releases a reader that waits for the close to be written.
func (c *drainConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.phase.CompareAndSwap(phaseHeld, phaseWritten) {
		close(c.released)
	}
	return n, err
}

// hijacker puts a drainConn below the connection that is hijacked.
type hijacker struct {
	http.ResponseWriter
	conn *drainConn
}

// Hijack is http.Hijacker's.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn.Conn = nc
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	_, violation := h.conn.frames.follow(early)
	h.conn.violation.Store(int64(violation))
	rw.Writer.Reset(h.conn)
	return h.conn, rw, nil
}
