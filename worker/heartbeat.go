package worker

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// heartbeat is how a master sees that a worker has not hung, if the configuration has a hang_timeout: four times in
// that time the worker writes the clock into a memory file that it shares with its master. It is the only thing for
// which an idle worker wakes up.
//
// The way of a beat is as long as the process's own: the runtime's timer; whatever the Worker has added by
// [Env.OnHeartbeat]; the locks and the accept loops of this package; and the goroutine that obeys the master. So a
// heartbeat fails if
//
//   - the process is stopped or frozen (SIGSTOP, a debugger, a cgroup), or all of its threads wait in the kernel,
//   - all of its Ps run what Go cannot interrupt (cgo, assembly, a tight loop with asyncpreemptoff=1), or a garbage
//     collection waits for one that does,
//   - the goroutine that obeys the master is stuck,
//   - connections wait and nobody has called Accept since the last beat: the accept loop is stuck,
//   - a function of OnHeartbeat does not return.
//
// It does not detect handlers that wait for each other, for a lock or for an upstream, goroutines that spin and that
// Go can interrupt, or wrong answers: servers are like that at times. Use OnHeartbeat for those.
type heartbeat struct {
	fd     int // raw; -1: there is none
	offset int64
	every  time.Duration

	mu     sync.Mutex
	checks []func()
}

// OnHeartbeat has check called before every heartbeat, about four times in a hang_timeout, if the configuration has
// one: as long as it does not return there is no heartbeat, and after a hang_timeout without one the process is killed
// and replaced. A check that takes and releases a lock which every request needs notices the deadlock of handlers.
//
// The checks are called one after the other, on a goroutine of their own.
func (e *Env) OnHeartbeat(check func()) {
	e.heartbeat.mu.Lock()
	defer e.heartbeat.mu.Unlock()
	e.heartbeat.checks = append(e.heartbeat.checks, check)
}

// open begins, with a memory file, which it takes.
func (h *heartbeat) open(fd int, offset, timeout int64) {
	h.fd, h.offset, h.every = fd, offset, max(time.Duration(timeout)/4, time.Millisecond)
}

// start returns a channel that gets a value for each beat, until the process ends; nil if there are none.
func (h *heartbeat) start(e *Env) <-chan struct{} {
	if h.fd < 0 {
		return nil
	}
	beats := make(chan struct{})
	go h.run(e, beats)
	return beats
}

func (h *heartbeat) run(e *Env, beats chan<- struct{}) {
	for range time.Tick(h.every) {
		h.mu.Lock()
		checks := h.checks
		h.mu.Unlock()
		for _, check := range checks {
			check()
		}
		if !e.acceptStuck() {
			beats <- struct{}{}
		}
	}
}

// beat writes the clock.
func (h *heartbeat) beat() {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], uint64(monotonic()))
	_, _ = unix.Pwrite(h.fd, b[:], h.offset)
}

// acceptStuck reports whether connections wait on a listener on which nobody accepts. It is called for each beat.
func (e *Env) acceptStuck() (stuck bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.sockets {
		if all := e.sockets[i].all; all != nil && e.ctx.Err() == nil && all.stuck() {
			stuck = true
		}
	}
	return stuck
}
