package httpworker

import (
	"context"
	"time"
)

// Draining returns what is closed when the worker begins to drain. Handlers with responses that have no end, and those
// that have hijacked their connection, should come to an end then: at the latest at [Deadline], where they are cut.
//
// ctx is a request's, or was made of one; what a handler needs after it has hijacked the connection it should ask for
// before. In a request that no Worker serves, it is nil, for ever.
func Draining(ctx context.Context) <-chan struct{} {
	if s := serverOf(ctx); s != nil {
		return s.Context().Done()
	}
	return nil
}

// OnDrain calls f on a goroutine of its own when the drain begins, at once if it has, and never without a Worker. It
// costs less than a goroutine that waits for Draining. What it returns takes the call back, and reports whether it was
// in time.
func OnDrain(ctx context.Context, f func()) (stop func() bool) {
	if s := serverOf(ctx); s != nil {
		return context.AfterFunc(s.Context(), f)
	}
	return func() bool { return true }
}

// Stopping returns what is closed when the whole program ends: then nobody serves after this worker, and there is
// little time. It may be closed together with Draining, or later. Without a Worker it is nil.
func Stopping(ctx context.Context) <-chan struct{} {
	if s := serverOf(ctx); s != nil {
		return s.env.Stopping()
	}
	return nil
}

// Deadline is when what is left of the drain is cut. It may move closer, see [DeadlineMoved]. It is zero before the
// drain has begun, and without a Worker.
func Deadline(ctx context.Context) time.Time {
	if s := serverOf(ctx); s != nil {
		return s.env.Deadline()
	}
	return time.Time{}
}

// DeadlineMoved returns what is closed when [Deadline] moves closer than it was at the call. Ask for it first and for
// Deadline then. Without a Worker it is nil.
func DeadlineMoved(ctx context.Context) <-chan struct{} {
	if s := serverOf(ctx); s != nil {
		return s.env.DeadlineMoved()
	}
	return nil
}

func serverOf(ctx context.Context) *server {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		return c.s
	}
	return nil
}
