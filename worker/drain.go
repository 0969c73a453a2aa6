package worker

import (
	"time"

	"baton/worker/wire"
)

// drain begins the drain, or moves its deadline closer.
func (e *Env) drain(d wire.Drain) {
	first := !e.draining()
	if first {
		e.handover.Stop() // before ctx ends: what was taken is counted among the open connections by then
	}
	if d.Stop {
		e.handover.Withdraw() // nobody serves it any longer than we do
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if first { // before the deadline, which may have come: a cut makes no room for what waits
		e.balance.Leave()
		for i := range e.sockets {
			e.sockets[i].drain(d.Ends, d.Stop)
		}
	}
	e.setDeadline(time.Duration(d.Deadline - monotonic()))
	if d.Stop && !isClosed(e.stopping) {
		close(e.stopping)
	}
	if first {
		e.cancel()
	}
}

// setDeadline is called with the lock held. A later deadline than the one that holds changes nothing.
func (e *Env) setDeadline(left time.Duration) {
	deadline := time.Now().Add(left)
	switch {
	case e.deadline.IsZero():
		e.cutTimer = time.AfterFunc(left, e.cutNow)
	case deadline.Before(e.deadline):
		close(e.moved)
		e.moved = make(chan struct{})
		if e.cutTimer.Stop() {
			e.cutTimer.Reset(left)
		}
	default:
		return
	}
	e.deadline = deadline
}

// cutNow is called at the deadline. What is on its way to others comes back, or has arrived.
func (e *Env) cutNow() {
	e.handover.Withdraw()
	close(e.cut)
}

func (e *Env) isCut() bool { return isClosed(e.cut) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Stopping is closed when the whole program ends, so that no other generation serves on. That may come with the end
// of ctx, or later, when the worker is draining already.
func (e *Env) Stopping() <-chan struct{} { return e.stopping }

// Deadline is the end of the drain. It may move closer, see [Env.DeadlineMoved]. It is zero before ctx has ended.
func (e *Env) Deadline() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.deadline
}

// DeadlineMoved is closed when Deadline moves closer than it was at the call: because the program stops, or because too
// many generations drain, and this one is to make an end of it. Ask for it first and for Deadline then.
func (e *Env) DeadlineMoved() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.moved
}

// lookAgain has the listeners whose sockets do not listen look whether they do now.
func (e *Env) lookAgain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.listened)
	e.listened = make(chan struct{})
}

func (e *Env) listening() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listened
}

// Cut is closed when the drain deadline has come.
func (e *Env) Cut() <-chan struct{} { return e.cut }
