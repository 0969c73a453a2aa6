package worker_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"baton/worker"
	"baton/worker/workertest"
)

// member is a Worker that is ready, and returns, when the test says so.
type member struct {
	ready chan struct{}
	ends  chan error
}

func newMember() member { return member{make(chan struct{}), make(chan error, 1)} }

func (m member) Serve(ctx context.Context, env *worker.Env) error {
	select {
	case <-m.ready:
	case err := <-m.ends:
		return err
	}
	env.Ready()
	return <-m.ends
}

// isReady tells without waiting.
func isReady(p *workertest.Process) bool {
	select {
	case <-p.Said():
		return true
	default:
		return false
	}
}

func TestGroupIsReadyWhenAllAre(t *testing.T) {
	t.Parallel()
	one, two := newMember(), newMember()
	p := workertest.Prepare(t, worker.Group(one, two), workertest.Options{})
	close(one.ready)
	if isReady(p) {
		t.Error("ready with one of two")
	}
	close(two.ready)
	p.AwaitReady()
	p.Drain(patience)
	one.ends <- nil
	if !p.Serving() {
		t.Error("Serve returned with one of two")
	}
	two.ends <- nil
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

func TestGroupFailsWithItsFirst(t *testing.T) {
	t.Parallel()
	trouble := errors.New("no disk")
	t.Run("before it is ready", func(t *testing.T) {
		t.Parallel()
		one, two := newMember(), newMember()
		p := workertest.Prepare(t, worker.Group(one, two), workertest.Options{})
		two.ends <- trouble
		if err := p.Wait(); !errors.Is(err, trouble) || isReady(p) {
			t.Errorf("Serve: %v, ready %v", err, isReady(p))
		}
		one.ends <- nil
	})
	t.Run("before the drain", func(t *testing.T) {
		t.Parallel()
		one, two := newMember(), newMember()
		close(one.ready)
		close(two.ready)
		p := workertest.Start(t, worker.Group(one, two), workertest.Options{})
		one.ends <- nil
		if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "member") {
			t.Errorf("Serve: %v", err)
		}
		two.ends <- nil
	})
	t.Run("while draining", func(t *testing.T) {
		t.Parallel()
		one, two := newMember(), newMember()
		close(one.ready)
		close(two.ready)
		p := workertest.Start(t, worker.Group(one, two), workertest.Options{})
		p.Drain(patience)
		one.ends <- trouble
		if !p.Serving() {
			t.Error("Serve returned before its other member")
		}
		two.ends <- nil
		if err := p.Wait(); !errors.Is(err, trouble) {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Run("by a panic", func(t *testing.T) {
		t.Parallel()
		p := workertest.Prepare(t, worker.Group(worker.Func(func(context.Context,
			*worker.Env,
		) error {
			panic("on purpose")
		})), workertest.Options{})
		if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "on purpose") {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestGroupOfGroups: with members that have nothing to serve, too.
func TestGroupOfGroups(t *testing.T) {
	t.Parallel()
	p := workertest.Start(t, worker.Group(worker.Group(), worker.Group(echoTCP, echoUDP)),
		workertest.Options{Process: "echo"})
	dial(t, p.Addr()).says("hello")
	p.Stop(patience)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}
