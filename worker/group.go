package worker

import (
	"context"
	"fmt"
)

// Group is several Workers in one process, as one [Worker]: it is ready when all of them are, and returns when all of
// them have. One that fails, or returns before the drain, fails the process and so the others. Each should have
// sockets of its own: two that serve the same one get what the kernel gives them.
func Group(workers ...Worker) Worker { return group(workers) }

type group []Worker

// result is how a member's Serve ended.
type result struct {
	w   Worker
	err error
}

// Serve serves all of them, each with a Ready of its own.
func (g group) Serve(ctx context.Context, env *Env) error {
	ended := make(chan result, len(g))
	views := make([]*Env, len(g))
	for i, w := range g {
		views[i] = env.view()
		go func() { ended <- result{w, serve(ctx, w, views[i])} }()
	}
	left := len(g)
	var first error
	note := func(r result) {
		left--
		if first == nil {
			first = r.problem(env)
		}
	}
	for _, v := range views {
		select {
		case <-v.ready:
		case r := <-ended:
			if note(r); first != nil {
				return first
			}
		}
	}
	env.Ready()
	for left > 0 {
		if note(<-ended); first != nil && !env.draining() {
			return first
		}
	}
	if len(g) == 0 {
		<-ctx.Done()
	}
	return first
}

// problem is what is wrong with the end of a member.
func (r result) problem(env *Env) error {
	if r.err == nil && !env.draining() {
		return fmt.Errorf("%T: returned before it was told to drain", r.w)
	}
	return r.err
}

// draining reports whether the drain has begun. Listeners stop a moment before ctx ends; the lock joins the two.
func (e *Env) draining() bool { return !e.Deadline().IsZero() }
