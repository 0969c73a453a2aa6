package httpworker

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// longAgo is the deadline that ends a Read or Write at once.
var longAgo = time.Unix(1, 0)

// h2Stream is a request of HTTP/2 within the limits for bodies that do not come and clients that take nothing. The
// streams of a connection share its socket, so there are no deadlines of the socket: a timer runs while the handler
// waits in a Read or Write, and ends the stream.
type h2Stream struct {
	http.ResponseWriter
	conn     *conn
	in, out  watch
	buffered int // bytes that net/http may have, and not have written
	exchange exchange
}

// h2Buffer is what net/http buffers of a stream's response, and h2Piece what must be taken within the limit: behind a
// larger Write nobody sees whether it moves.
const (
	h2Buffer = 4 << 10
	h2Piece  = 32 << 10
)

// watchStream makes of w and of r's body what has limits. The handler's end must be told to it.
func (c *conn) watchStream(w http.ResponseWriter, r *http.Request) *h2Stream {
	s := c.s
	h := &h2Stream{ResponseWriter: w, conn: c, exchange: exchange{began: time.Now(), request: r}}
	if stream, ok := w.(deadlines); ok { // net/http's is
		h.in = watch{limit: s.BodyTimeout, stream: stream}
		h.out = watch{limit: s.SendTimeout, stream: stream, writes: true}
	}
	if r.Body != http.NoBody {
		r.Body = &h2Body{r.Body, &h.in}
	}
	return h
}

// answers is called before an answer begins.
func (h *h2Stream) answers(status int) {
	if h.exchange.status == 0 {
		h.exchange.status = status
		h.conn.s.answers()
	}
}

// ended is called when the handler is over. What net/http has then still to write has its time as well.
func (h *h2Stream) ended() {
	h.conn.s.over(h.conn, h.exchange)
	h.in.end()
	if h.out.end() && h.buffered > 0 {
		_ = h.out.set(time.Now().Add(h.out.limit))
	}
}

// WriteHeader is http.ResponseWriter's.
func (h *h2Stream) WriteHeader(status int) {
	if status >= http.StatusOK {
		h.answers(status)
	}
	h.ResponseWriter.WriteHeader(status)
}

// Write is http.ResponseWriter's.
func (h *h2Stream) Write(p []byte) (done int, err error) {
	h.answers(http.StatusOK)
	h.exchange.sent += int64(len(p))
	if h.buffered+len(p) <= h2Buffer { // it does not wait
		h.buffered += len(p)
		return h.ResponseWriter.Write(p)
	}
	h.buffered = h2Buffer
	for err == nil && done < len(p) {
		var n int
		h.out.begin()
		n, err = h.ResponseWriter.Write(p[done:min(len(p), done+h2Piece)])
		h.out.pause()
		done += n
	}
	return done, err
}

// WriteString is io.StringWriter's.
func (h *h2Stream) WriteString(s string) (int, error) { return h.Write([]byte(s)) }

// FlushError is what a http.ResponseController flushes with.
func (h *h2Stream) FlushError() error {
	h.answers(http.StatusOK)
	h.out.begin()
	defer h.out.pause()
	h.buffered = 0
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Flush is http.Flusher's.
func (h *h2Stream) Flush() { _ = h.FlushError() }

// Push is http.Pusher's.
func (h *h2Stream) Push(target string, o *http.PushOptions) error {
	if p, ok := h.ResponseWriter.(http.Pusher); ok {
		return p.Push(target, o)
	}
	return http.ErrNotSupported
}

// SetReadDeadline is a http.ResponseController's. A deadline that the handler sets replaces the limit.
func (h *h2Stream) SetReadDeadline(t time.Time) error { return h.in.setUser(t) }

// SetWriteDeadline is the same for writing.
func (h *h2Stream) SetWriteDeadline(t time.Time) error { return h.out.setUser(t) }

// Unwrap is for http.ResponseController.
func (h *h2Stream) Unwrap() http.ResponseWriter { return h.ResponseWriter }

// h2Body is a body whose Reads are watched.
type h2Body struct {
	io.ReadCloser
	in *watch
}

// Read is the body's.
func (b *h2Body) Read(p []byte) (int, error) {
	b.in.begin()
	defer b.in.pause()
	return b.ReadCloser.Read(p)
}

// deadlines are a stream's.
type deadlines interface {
	SetReadDeadline(t time.Time) error
	SetWriteDeadline(t time.Time) error
}

// watch ends one direction of a stream when what has begun does not pause within the limit.
type watch struct {
	limit  time.Duration // 0 or less: there is none
	stream deadlines
	writes bool

	mu    sync.Mutex
	timer *time.Timer
	state watchState
}

type watchState uint8

const (
	watchPaused watchState = iota
	watchRunning
	watchUser  // the handler has set a deadline of its own
	watchEnded // net/http's part of the stream may be gone
)

func (w *watch) begin() {
	if w.limit <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state != watchPaused {
		return
	}
	w.state = watchRunning
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit, w.expire)
	} else {
		w.timer.Reset(w.limit)
	}
}

func (w *watch) pause() { w.leave(watchPaused) }

// end reports whether the limit, and no deadline of the handler's, is in force.
func (w *watch) end() bool { return w.leave(watchEnded) != watchUser && w.limit > 0 }

// leave is for what does not run. It returns the state before.
func (w *watch) leave(to watchState) (from watchState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from = w.state
	if to == watchEnded || from == watchRunning {
		w.state = to
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	return from
}

func (w *watch) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == watchRunning {
		_ = w.set(longAgo)
	}
}

func (w *watch) set(t time.Time) error {
	switch {
	case w.stream == nil:
		return http.ErrNotSupported
	case w.writes:
		return w.stream.SetWriteDeadline(t)
	}
	return w.stream.SetReadDeadline(t)
}

var errStreamEnded = errors.New("httpworker: the stream has ended")

func (w *watch) setUser(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state == watchEnded {
		return errStreamEnded
	}
	if w.state = watchUser; t.IsZero() {
		w.state = watchPaused
	}
	if w.timer != nil {
		w.timer.Stop()
	}
	return w.set(t)
}
