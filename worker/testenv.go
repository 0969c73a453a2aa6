package worker

import (
	"context"
	"log/slog"

	"baton/worker/handover"
	"baton/worker/wire"
)

// Director plays the master to an Env in the same process. It is for tests: see package workertest.
//
// Threading: its methods are for one goroutine.
type Director struct{ p process }

// NewDirector returns the Director of a new Env. The Env takes the descriptors, one for each of setup.Listeners.
func NewDirector(setup wire.Setup, fds []int, payload []byte, log *slog.Logger) *Director {
	env := newEnv(setup, log)
	for i, l := range setup.Listeners {
		env.addSocket(l, fds[i])
	}
	env.payload = payload
	env.tickets.set(setup.Tickets)
	return &Director{p: process{env: env}}
}

// Exchange gives the Env its end of the hand-over queue. It is called before the Worker is served.
func (d *Director) Exchange(x *handover.Exchange) {
	x.Room = d.p.env.gate.room
	d.p.env.handover = x
}

// Env is what a Worker gets.
func (d *Director) Env() *Env { return d.p.env }

// Context is what a Worker gets.
func (d *Director) Context() context.Context { return d.p.env.ctx }

// Ready is closed when the Worker has said that it is ready.
func (d *Director) Ready() <-chan struct{} { return d.p.env.ready }

// Go lets the Worker work. It may be called once.
func (d *Director) Go() {
	close(d.p.env.granted)
	if x := d.p.env.handover; x != nil {
		x.Start()
	}
}

// Drain begins the drain, or moves its deadline closer.
func (d *Director) Drain(m wire.Drain) { d.p.drain(m) }
