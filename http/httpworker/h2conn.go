package httpworker

import (
	"io"
	"sync"
	"time"

	"baton/worker/conns"
)

// preface is what an HTTP/2 client sends first.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// h2Conn is a conn that speaks HTTP/2, as net/http has it. It sees the frames pass in both directions: it can say
// goAwayFrames between two of them, and keeps the time limit of a request's header.
//
// Threading: one goroutine reads and one writes, net/http sees to that. announce may be called by others.
type h2Conn struct {
	*conn
	to    io.Writer // the conn
	first []byte    // to be read before the conn

	in       frames
	prefaced int       // bytes of the preface that were read
	opened   bool      // a request's header has begun, and not ended
	deadline time.Time // that is armed

	requested chan struct{} // closed when a request has come
	returned  chan struct{} // closed when a PING has come back
	closed    chan struct{}

	mu      sync.Mutex // is held while writing
	out     frames
	greeted bool // the first frame, SETTINGS, was written
	pending bool // goAwayFrames are to be written

	closing sync.Once
	stop    func() bool // nothing is to be done any more when the drain begins
}

func newH2Conn(c *conn, first []byte) *h2Conn {
	h := &h2Conn{
		conn: c, to: &c.Conn, first: first,
		requested: make(chan struct{}), returned: make(chan struct{}), closed: make(chan struct{}),
	}
	c.Stopped = h.closeIfSilent
	c.stopScanning(exchangeForeign)
	c.Detach(true) // without the limit of writes nobody would end it: net/http does not know it as hijacked
	return h
}

// Read reads, and follows the frames.
func (h *h2Conn) Read(p []byte) (int, error) {
	var n int
	var err error
	if len(h.first) > 0 {
		n = copy(p, h.first)
		h.first = h.first[n:]
	} else {
		h.limit()
		n, err = h.conn.Read(p)
	}
	h.follow(p[:n])
	return n, err
}

// limit arms the deadline that the next Read has: for the preface, and for the rest of a header. Otherwise net/http
// closes a connection that is idle.
func (h *h2Conn) limit() {
	var end time.Time
	switch {
	case h.prefaced == 0:
		end = time.Now().Add(h.s.WaitLimit())
	case (h.opened || h.prefaced < len(preface)) && h.deadline.IsZero():
		end = time.Now().Add(h.s.ReceiveTimeout)
	case h.opened || h.prefaced < len(preface):
		return
	case h.deadline.IsZero():
		return
	}
	h.deadline = end
	_ = h.conn.SetReadDeadline(end)
}

// follow notes what has come.
func (h *h2Conn) follow(p []byte) {
	if h.prefaced < len(preface) {
		n := min(len(p), len(preface)-h.prefaced)
		h.prefaced += n
		p = p[n:]
	}
	for len(p) > 0 {
		n, head, end := h.in.take(p)
		p = p[n:]
		if head && h.in.is(frameHeaders) {
			h.opened = true
			closeOnce(h.requested)
		}
		if end && h.in.has(flagEndHeaders) && (h.in.is(frameHeaders) || h.in.is(frameContinuation)) {
			h.opened = false
		}
		if end && h.in.isAck(framePing) {
			closeOnce(h.returned)
		}
	}
}

// closeOnce closes a channel that only one goroutine closes.
func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// closeIfSilent ends a connection on which nothing has come.
func (h *h2Conn) closeIfSilent() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.greeted {
		_ = h.conn.SetReadDeadline(longAgo)
	}
}

// SetReadDeadline does nothing: net/http sets none that matters, and the connection has its own.
func (h *h2Conn) SetReadDeadline(time.Time) error { return nil }

// SetDeadline sets the deadline for writing.
func (h *h2Conn) SetDeadline(t time.Time) error { return h.SetWriteDeadline(t) }

// Write writes, with goAwayFrames in between if they are due.
func (h *h2Conn) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	done := 0
	for i := 0; i < len(p); {
		n, _, end := h.out.take(p[i:])
		if i += n; !end {
			continue
		}
		h.greeted = true
		if !h.pending {
			continue
		}
		m, err := h.to.Write(p[done:i])
		if done += m; err != nil {
			return done, err
		}
		if err := h.writeGoAway(); err != nil {
			return done, err
		}
	}
	if done == len(p) {
		return done, nil
	}
	n, err := h.to.Write(p[done:])
	return done + n, err
}

// sendGoAway writes goAwayFrames, now or as soon as a frame that is being written has ended. It may block as long as a
// Write.
func (h *h2Conn) sendGoAway() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending = true
	if h.greeted && h.out.between() {
		_ = h.writeGoAway() // an error meets the next Write, too
	}
}

func (h *h2Conn) writeGoAway() error {
	h.pending = false
	_, err := io.WriteString(h.to, goAwayFrames)
	return err
}

// h2LingerTime is how long a closing HTTP/2 connection waits at most for its client to close as well. A client that
// still reads the last response tells so in frames, and a close would answer those with a reset.
const h2LingerTime = 30 * time.Second

// lingerPause is how long it waits for the next sign of life.
func (h *h2Conn) lingerPause() time.Duration {
	if h.s.Stopping() {
		return conns.LingerTime / 4
	}
	return conns.LingerTime
}

// Close closes the connection such that what was written arrives.
func (h *h2Conn) Close() error {
	h.closing.Do(func() {
		h.stop()
		defer close(h.closed)
		h.Linger(h.lingerPause(), h2LingerTime)
	})
	return nil
}
