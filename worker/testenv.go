package worker

import (
	"context"
	"log/slog"

	"baton/worker/wire"
)

// Director plays the master to an Env in the same process. It is for tests: see package workertest.
//
// Its methods are for one goroutine.
type Director struct{ env *Env }

// NewDirector returns the Director of a new Env. The Env takes the descriptors, one for each of setup.Listeners.
func NewDirector(setup wire.Setup, fds []int, payload []byte, log *slog.Logger) *Director {
	env := newEnv(setup, log)
	for i, l := range setup.Listeners {
		env.addSocket(l, fds[i])
	}
	env.payload = payload
	return &Director{env: env}
}

// Env is what a Worker gets.
func (d *Director) Env() *Env { return d.env }

// Context is what a Worker gets.
func (d *Director) Context() context.Context { return d.env.ctx }

// Ready is closed when the Worker has said that it is ready.
func (d *Director) Ready() <-chan struct{} { return d.env.ready }

// Open has others be told that the Worker takes connections. It is called when the Worker is ready, and does nothing
// when it is called again.
func (d *Director) Open() { d.env.openHandover() }

// Go lets the Worker work. It may be called once, when the Worker is ready.
func (d *Director) Go() {
	close(d.env.granted)
	d.Open()
	d.env.handover.Start()
}

// Drain begins the drain, or moves its deadline closer.
func (d *Director) Drain(m wire.Drain) { d.env.drain(m) }
