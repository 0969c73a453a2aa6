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

// errUpstreamTimeout is why an upstream is given up.
var errUpstreamTimeout = errors.New("the upstream does not answer in time")

// patient is a RoundTripper whose upstreams begin to answer within the limit, if it is not 0. The time in which the client's
// body is waited for is not the upstream's.
type patient struct {
	http.RoundTripper
	limit time.Duration
}

// RoundTrip is that of http.RoundTripper.
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, wait := newUpstreamWait(r.Context(), p.limit)
	client := r.Context()
	r = r.WithContext(ctx)
	body := &clientBody{ReadCloser: r.Body, wait: wait}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = body
	}
	resp, err := p.RoundTripper.RoundTrip(r)
	wait.end()
	switch {
	case errors.Is(context.Cause(ctx), errUpstreamTimeout):
		if err == nil {
			_ = resp.Body.Close()
		}
		return nil, errUpstreamTimeout
	case err != nil && client.Err() != nil && body.failed() != nil: // a body that fails ends the context, too
		return nil, body.failed()
	}
	return resp, err
}

// upstreamWait is the time that an upstream has. It stands still while the client is waited for.
type upstreamWait struct {
	limit time.Duration
	mu    sync.Mutex
	timer *time.Timer // nil: there is no limit any more
}

// newUpstreamWait begins it. The context ends with ctx, as the answer's body needs it, or when the time is up.
func newUpstreamWait(ctx context.Context, limit time.Duration) (context.Context, *upstreamWait) {
	w := &upstreamWait{limit: limit}
	if limit > 0 {
		var giveUp context.CancelCauseFunc
		ctx, giveUp = context.WithCancelCause(ctx)
		w.timer = time.AfterFunc(limit, func() { giveUp(errUpstreamTimeout) })
	}
	return ctx, w
}

func (w *upstreamWait) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *upstreamWait) restart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Reset(w.limit)
	}
}

func (w *upstreamWait) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// clientBody is a request's body on its way to the upstream.
type clientBody struct {
	io.ReadCloser
	wait *upstreamWait

	mu  sync.Mutex // is held while reading
	err error
}

// Read waits for the client.
func (b *clientBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wait.pause()
	defer b.wait.restart()
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &bodyError{err}
		b.err = err
	}
	return n, err
}

// failed says how the body has failed. A Read in progress is waited for: ask only when it is about to end.
func (b *clientBody) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// bodyError is the client's fault: its body has not come, or is broken.
type bodyError struct{ error }

// Unwrap is for package errors.
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
