package site

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// errUpstreamTimeout is the cause with which a request to an upstream is canceled.
var errUpstreamTimeout = errors.New("the upstream does not answer in time")

// timeoutTransport is a RoundTripper whose upstreams may pause for up to the limit: before they begin to answer, and
// between two reads of the answer's body. The time in which the client is waited for is not the upstream's. 0 is no limit.
type timeoutTransport struct {
	http.RoundTripper
	limit time.Duration
}

// RoundTrip sends a request to the upstream.
func (t timeoutTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	client := r.Context()
	ctx, cancel := context.WithCancelCause(client) // ends with the client's, as the answer's body needs it
	wait := &upstreamTimer{limit: t.limit, expired: func() { cancel(errUpstreamTimeout) }}
	body := &clientBody{ReadCloser: r.Body, wait: wait}
	r = r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = body
	}
	wait.start()
	resp, err := t.RoundTripper.RoundTrip(r)
	wait.end()
	switch {
	case errors.Is(context.Cause(ctx), errUpstreamTimeout):
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, errUpstreamTimeout
	case err != nil:
		cancel(nil)
		if client.Err() != nil && body.failed() != nil { // a body that fails ends the client's context, too
			return nil, body.failed()
		}
		return nil, err
	case resp.StatusCode != http.StatusSwitchingProtocols: // that body is a tunnel
		resp.Body = &upstreamBody{resp.Body, &upstreamTimer{limit: t.limit, expired: wait.expired}}
	}
	return resp, nil
}

// upstreamTimer measures how long an upstream is waited for.
type upstreamTimer struct {
	limit   time.Duration
	expired func()

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// start begins a wait, which has the whole limit.
func (t *upstreamTimer) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.ended || t.limit <= 0:
	case t.timer == nil:
		t.timer = time.AfterFunc(t.limit, t.expired)
	default:
		t.timer.Reset(t.limit)
	}
}

// stop ends a wait.
func (t *upstreamTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
	}
}

// end ends a wait, and there will be no other.
func (t *upstreamTimer) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

// upstreamBody is the body of an answer on its way to the client.
type upstreamBody struct {
	io.ReadCloser
	wait *upstreamTimer
}

// Read waits for the upstream.
func (b *upstreamBody) Read(p []byte) (int, error) {
	b.wait.start()
	defer b.wait.stop()
	return b.ReadCloser.Read(p)
}

// clientBody is the body of a request on its way to the upstream.
type clientBody struct {
	io.ReadCloser
	wait *upstreamTimer

	mu  sync.Mutex // is held while reading
	err error
}

// Read waits for the client.
func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wait.stop()
	defer b.wait.start()
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &bodyError{err}
		b.err = err
	}
	return n, err
}

// failed returns the error of the body. A Read in progress is waited for: call it only when Read is about to return.
func (b *clientBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// bodyError is the client's fault: its body has not come, or is broken.
type bodyError struct{ error }

// Unwrap returns the error of the body's Read.
func (e *bodyError) Unwrap() error { return e.error }

// answer tells the client. What follows on the connection is no request.
func (e *bodyError) answer(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	if errors.Is(e, os.ErrDeadlineExceeded) {
		http.Error(w, "408 request timeout: the body does not come", http.StatusRequestTimeout)
		return
	}
	http.Error(w, "400 bad request: the body is broken", http.StatusBadRequest)
}
