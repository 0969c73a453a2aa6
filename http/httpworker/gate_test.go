package httpworker

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"

	"baton/worker/workertest"
)

// gate is a Worker whose handlers wait to be let go.
type gate struct {
	*workertest.Process
	entered chan struct{} // one for each request
	leave   chan struct{}

	mu   sync.Mutex
	last context.Context // of the last request
}

func newGate(t testing.TB, limit int) *gate { return newGateWith(t, Settings{MaxHeaderSize: limit}) }

func newGateWith(t testing.TB, s Settings) *gate {
	g := &gate{entered: make(chan struct{}, 100), leave: make(chan struct{}, 100)}
	s.Handler = g
	g.Process = start(t, s)
	return g
}

func dialTo(t testing.TB, g *gate) *client { return dial(t, g.Process) }

func (g *gate) ctx() context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.last = r.Context()
	g.mu.Unlock()
	g.entered <- struct{}{}
	select {
	case <-g.leave:
	case <-r.Context().Done():
	}
	_, _ = io.WriteString(w, r.URL.Path)
}
