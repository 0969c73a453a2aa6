package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"os"
	"sync"
	"time"
)

// continueLimit is how long an upstream may take to ask for a body that the client holds back; then it is sent anyway.
const continueLimit = time.Second

// phase is how far a body has come.
type phase int

const (
	heldBack  phase = iota // by the client, until it hears 100 Continue
	sending                // it is read and written
	sent                   // the upstream has it
	broken                 // by the client
	refused                // by the upstream: it does not read it, or has responded without it
	abandoned              // the exchange is over
)

// body is a request's body on its way to the upstream. A nil body is that of a request without one.
//
// Threading: start is called by the exchange, and run is a goroutine of its own afterwards, which may outlive the
// exchange: a Read that waits for the client ends only with the client, or with the handler.
type body struct {
	x       *exchange
	to      io.Writer     // the connection's buffer, or chunks in it
	chunked io.Closer     // writes the last chunk; nil if the length is known
	proceed chan struct{} // closed when heldBack ends
	ended   chan struct{} // closed when run has; nil without it

	mu    sync.Mutex
	phase phase
	read  bool // something of it was
	err   error
}

func newBody(x *exchange) *body {
	if x.r.ContentLength == 0 || x.r.Body == nil || x.r.Body == http.NoBody {
		return nil
	}
	b := &body{x: x, to: x.c.w, phase: sending}
	if x.r.ContentLength < 0 {
		chunks := httputil.NewChunkedWriter(x.c.w)
		b.to, b.chunked = chunks, chunks
	}
	if x.expects {
		b.phase, b.proceed = heldBack, make(chan struct{})
	}
	return b
}

// start writes the beginning of the body together with the header if its length is known, for that may be all. The
// rest gets a goroutine.
func (b *body) start() error {
	if b.chunked == nil && b.proceed == nil {
		buf := buffers.Get().(*[bufferSize]byte)
		defer buffers.Put(buf)
		n, err := b.receive(buf[:])
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case int64(n) == b.x.r.ContentLength:
			_, _ = b.to.Write(buf[:n])
			return b.finish()
		}
		_, _ = b.to.Write(buf[:n])
	}
	if err := b.x.c.w.Flush(); err != nil {
		return err
	}
	_ = http.NewResponseController(b.x.w).EnableFullDuplex() // or net/http takes the rest when the response begins
	b.ended = make(chan struct{})
	go b.run()
	return nil
}

// run sends what start has left.
func (b *body) run() {
	defer close(b.ended)
	if !b.awaitProceed() {
		return
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := b.receive(buf[:])
		if n > 0 && !b.send(buf[:n]) {
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			if err := b.finish(); err != nil {
				b.refuse(err)
			}
			return
		case err != nil:
			_ = b.x.c.Close() // half a request is none
			return
		}
	}
}

// awaitProceed waits until the client may send. It returns false if the exchange ends before.
func (b *body) awaitProceed() bool {
	if b.proceed == nil {
		return true
	}
	timer := time.NewTimer(continueLimit)
	defer timer.Stop()
	select {
	case <-b.proceed:
	case <-timer.C:
		b.advance(heldBack, sending)
	}
	return b.is(sending)
}

// receive reads from the client.
func (b *body) receive(p []byte) (int, error) {
	b.mu.Lock()
	b.read = true
	b.mu.Unlock()
	n, err := b.x.r.Body.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	err = &bodyError{err}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.phase, b.err = broken, err
	return n, err
}

// send writes to the upstream, at once: the client may wait for what it says to that.
func (b *body) send(p []byte) bool {
	b.x.limit(b.x.c.SetWriteDeadline)
	_, err := b.to.Write(p)
	if err == nil {
		err = b.x.c.w.Flush()
	}
	if err != nil {
		b.refuse(err)
	}
	return err == nil
}

// refuse is called when the upstream does not take the body. What it has to say about that may still come.
func (b *body) refuse(err error) {
	b.mu.Lock()
	b.phase, b.err = refused, err
	b.mu.Unlock()
	if isTimeout(err) {
		_ = b.x.c.SetReadDeadline(time.Unix(1, 0))
		return
	}
	b.x.limit(b.x.c.SetReadDeadline)
}

// finish writes the end, and begins the wait for the response.
func (b *body) finish() error {
	w := b.x.c.w
	if b.chunked != nil {
		_ = b.chunked.Close()
		for name, values := range b.x.r.Trailer {
			b.x.pass(w, name, values)
		}
		_, _ = w.WriteString("\r\n")
	}
	if err := w.Flush(); err != nil {
		return err
	}
	b.x.limit(b.x.c.SetReadDeadline)
	b.advance(sending, sent)
	return nil
}

// proceeds is called when the upstream has said 100 Continue.
func (b *body) proceeds() {
	if b != nil && b.advance(heldBack, sending) {
		close(b.proceed)
	}
}

// over is called when the response has come without the body that was held back.
func (b *body) over() {
	if b != nil && b.advance(heldBack, abandoned) {
		close(b.proceed)
	}
}

func (b *body) advance(from, to phase) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.phase != from {
		return false
	}
	b.phase = to
	return true
}

func (b *body) is(p phase) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.phase == p
}

// whole reports whether the upstream has all of the request.
func (b *body) whole() bool { return b == nil || b.is(sent) }

// untouched reports whether nothing of it was read.
func (b *body) untouched() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.read
}

// failed says why the exchange could not end well, if it was for the body. A body that breaks off may end the
// request's context before its Read has returned: that is waited for.
func (b *body) failed() error {
	if b == nil {
		return nil
	}
	if b.ended != nil && b.x.r.Context().Err() != nil {
		<-b.ended
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// bodyError is the client's fault: its body has not come, or is broken.
type bodyError struct{ error }

// Unwrap is for package errors.
func (e *bodyError) Unwrap() error { return e.error }

// AnswerBadBody tells a client that its body has not come in time, or is broken: err is what a Read of it returned.
// What follows on the connection is no request.
func AnswerBadBody(w http.ResponseWriter, r *http.Request, err error) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		http.Error(w, "408 request timeout: the body does not come", http.StatusRequestTimeout)
		return
	}
	http.Error(w, "400 bad request: the body is broken", http.StatusBadRequest)
}
