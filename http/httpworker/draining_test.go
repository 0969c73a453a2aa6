package httpworker

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestDraining: a response without end learns of the drain and of its deadline, and comes to an end by itself.
func TestDraining(t *testing.T) {
	entered := make(chan bool)
	told := make(chan bool, 1)
	p := start(t, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Deadline(r.Context()).IsZero() {
			t.Error("there is a deadline before the drain")
		}
		defer OnDrain(r.Context(), func() { told <- true })()
		entered <- true
		select {
		case <-Draining(r.Context()):
		case <-Stopping(r.Context()):
			t.Error("a drain is no stop")
		}
		if left := time.Until(Deadline(r.Context())); left <= 0 || left > never {
			t.Errorf("the deadline is in %v", left)
		}
		<-told
		_, _ = io.WriteString(w, "the end")
	})})
	c := dial(t, p)
	c.send(get("/"))
	<-entered
	p.Drain(never)
	c.want(200, "the end")
	_ = c.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestNotDraining: a request that no Worker serves is never told anything.
func TestNotDraining(t *testing.T) {
	ctx := context.Background()
	if Draining(ctx) != nil || Stopping(ctx) != nil || !Deadline(ctx).IsZero() {
		t.Error("without a Worker there is no drain")
	}
	if !OnDrain(ctx, func() { t.Error("called") })() {
		t.Error("what is never called can be taken back")
	}
}
