package supervisor

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// Until a master has said its config's timeouts, these hold.
const (
	defaultStop  = 8 * time.Second
	defaultDrain = 90 * time.Second
)

// sameSignal is how soon after the first one a signal to stop is the same one: timeout, shells and init send it to the
// process and to its group.
const sameSignal = 500 * time.Millisecond

// orphanGrace is what an orphan has between TERM and KILL.
const orphanGrace = time.Second

// stopPhase is how far a stop has come.
type stopPhase uint8

const (
	stopNotBegun stopPhase = iota
	stopDraining           // all have been told, and have until the deadline
	stopOrphans            // only orphans are left, and have been told
	stopKilling            // every child is killed, and whatever becomes one
)

// stopping is the end of everything.
type stopping struct {
	phase       stopPhase
	firstSignal time.Time
	killAt      time.Time
	exit        int // code
}

func (s *stopping) begun() bool { return s.phase != stopNotBegun }

// overdue says why everything is killed at the deadline.
func (s *stopping) overdue() string {
	if s.phase == stopOrphans {
		return "it does not end"
	}
	return "stop timeout"
}

// isSecond reports whether a signal to stop at now is another one than the first. There is none before the first.
func isSecond(first, now time.Time) bool { return !first.IsZero() && now.Sub(first) >= sameSignal }

// signalled is INT, TERM or QUIT. The first one joins a stop that somebody else has asked for; a second one kills.
func (sv *supervisor) signalled(by string, quit bool, now time.Time) {
	if isSecond(sv.stopping.firstSignal, now) {
		sv.killAll("second " + by)
		return
	}
	sv.stop(by, quit)
	if sv.stopping.firstSignal.IsZero() {
		sv.stopping.firstSignal = time.Now() // when it was obeyed: what was sent with it has come by now
	}
}

// stop ends everything within stop_timeout; quit: within drain_timeout. All are told at once, and what is left at the
// deadline is killed. The deadline is the supervisor's, for there may be no master, or one that does not run. While a
// stop is in progress another one changes nothing. peer are the attributes of the process that has sent a command.
func (sv *supervisor) stop(by string, quit bool, peer ...any) {
	if sv.stopping.begun() {
		return
	}
	sv.stopping.phase = stopDraining
	limit := sv.stopLimit(quit)
	sv.log.Info("supervisor: stopping", append([]any{"by", by, "within", limit}, peer...)...)
	sv.stopping.killAt = time.Now().Add(limit)
	sv.systemd.Stopping(limit)
	deadline := int64(monotime.Now().Add(limit - stopMargin(limit)))
	if sv.attempt != nil {
		sv.attempt.setReason("stopping")
		sv.killSuccessor()
	}
	sv.reexec.candidate.Kill(false)
	if sv.current == nil && sv.starting != nil {
		sv.kernel.signal(sv.starting.pid, unix.SIGKILL) // it has not taken over anything
	}
	sv.post(message.Stop{Deadline: deadline})
	// Before the workers are told: what they find in the queue then is all there will be.
	sv.dropListeners()
	sv.drainWorkers(deadline)
}

// stopMargin is kept of a stop's time, so that workers can say what they cut before they are killed.
func stopMargin(limit time.Duration) time.Duration { return min(500*time.Millisecond, limit/8) }

// stopLimit is what the config of the master says, or of the last one.
func (sv *supervisor) stopLimit(quit bool) time.Duration {
	t := message.Preparing{StopTimeout: int64(defaultStop), DrainTimeout: int64(defaultDrain)}
	if sv.current != nil && sv.current.timeouts.StopTimeout > 0 {
		t = sv.current.timeouts
	} else if sv.lastTimeouts.StopTimeout > 0 {
		t = sv.lastTimeouts
	}
	if quit {
		return time.Duration(t.DrainTimeout)
	}
	return time.Duration(t.StopTimeout)
}

// drainWorkers tells every worker by itself: the master may be stopped, or gone.
func (sv *supervisor) drainWorkers(deadline int64) {
	data, err := wire.Encode(wire.Drain{Deadline: deadline, Stop: true})
	if err != nil {
		sv.log.Error("supervisor: stop", "error", err)
		return
	}
	for _, name := range sv.registry.names(EntryWorker + "/") {
		if fd := sv.registry[name].FD; fd >= 0 {
			_ = unix.Sendmsg(fd, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
	}
}

// killAll kills every child, and then what becomes one, until there is none.
func (sv *supervisor) killAll(why string) {
	if sv.stopping.phase != stopKilling && !sv.reap() {
		sv.log.Warn("supervisor: killing what is left", "because", why)
	}
	sv.stopping.phase = stopKilling
	sv.killChildren()
}

// killChildren kills the children; theirs come to this process, and are killed when it reaps.
func (sv *supervisor) killChildren() {
	for _, pid := range sv.kernel.children() {
		sv.kernel.signal(pid, unix.SIGKILL)
	}
}

// terminateOrphans is called while everything stops.
//
// An orphan is a child that is no master and no worker: a process whose parent has exited and that came to this
// process as its reaper, or one that a shell had started before it executed baton. In a container, where this process
// is PID 1, that is everything that lost its parent.
//
// While baton serves, orphans are reaped and else left alone. At a stop they do not hold it up: when nobody else is
// left they get TERM, and KILL a second later, or at the end of the stop's time if that is earlier.
func (sv *supervisor) terminateOrphans(now time.Time) {
	if sv.stopping.phase != stopDraining || sv.live > 0 {
		return
	}
	left := sv.kernel.children()
	if slices.ContainsFunc(left, sv.isOurs) {
		return
	}
	sv.stopping.phase = stopOrphans
	for _, pid := range left {
		sv.kernel.signal(pid, unix.SIGTERM)
	}
	sv.stopping.killAt = earlier(sv.stopping.killAt, now.Add(orphanGrace))
	sv.log.Info("supervisor: terminating orphaned processes", "number", len(left))
}

// isOurs reports whether a child is a master or a worker.
func (sv *supervisor) isOurs(pid int) bool {
	_, isWorker := sv.registry[WorkerEntry(pid)]
	return isWorker || slices.Contains(sv.leaving, pid) || sv.of(pid) != nil
}

// forgetChild is called when a child has been reaped.
func (sv *supervisor) forgetChild(pid int) {
	sv.leaving = slices.DeleteFunc(sv.leaving, func(p int) bool { return p == pid })
	if sv.attempt != nil {
		sv.attempt.forgetWorker(pid)
	}
}
