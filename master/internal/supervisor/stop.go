package supervisor

import (
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// sameSignal is how soon after the first one a signal to stop is the same one: timeout, shells and init send it to the
// process and to its group.
const sameSignal = 500 * time.Millisecond

// isSecond reports whether a signal to stop at now is another one than the first. There is none before the first.
func isSecond(first, now time.Time) bool { return !first.IsZero() && now.Sub(first) >= sameSignal }

// stop is a wish to end everything.
type stop struct {
	by   string // for the log
	quit bool   // up to drain_timeout
}

// signalled is INT, TERM or QUIT. The first one joins a stop that somebody else has asked for; a second one kills.
func (sv *supervisor) signalled(s stop, now time.Time) {
	if isSecond(sv.firstSignal, now) {
		sv.killAll("second " + s.by)
		return
	}
	sv.stop(s)
	if sv.firstSignal.IsZero() {
		sv.firstSignal = time.Now() // when it was obeyed: what was sent with it has come by now
	}
}

// stop ends everything: all are told at once, and what is left at the deadline is killed. The deadline is the supervisor's,
// for there may be no master, or one that does not run. While a stop is on its way another one changes nothing.
func (sv *supervisor) stop(s stop) {
	if sv.stopping {
		return
	}
	sv.stopping = true
	limit := sv.stopLimit(s.quit)
	sv.log.Info("supervisor: stopping", "by", s.by, "within", limit.String())
	sv.dl.kill = time.Now().Add(limit)
	sv.sayStopping(limit)
	deadline := int64(monotime.Now().Add(limit - stopMargin(limit)))
	if sv.attempt != nil {
		sv.attempt.blame("stopping")
		sv.abandonSuccessor()
	}
	if sv.follow.pid != 0 {
		_ = unix.Kill(sv.follow.pid, unix.SIGKILL)
	}
	if sv.current == nil && sv.starting != nil {
		_ = unix.Kill(sv.starting.pid, unix.SIGKILL) // it has not taken over anything
	}
	sv.post(message.Stop{Deadline: deadline})
	// Before the workers are told: what they find in the queue then is all there will be.
	sv.dropListeners()
	sv.drainWorkers(deadline)
}

// stopMargin is kept of a stop's time, so that workers can say what they cut before they are killed.
func stopMargin(limit time.Duration) time.Duration { return min(500*time.Millisecond, limit/8) }

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
		if fd := sv.registry[name].fd; fd >= 0 {
			_ = unix.Sendmsg(fd, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
	}
}

// killAll kills every child, and then whoever becomes one, until there is none.
func (sv *supervisor) killAll(why string) {
	if !sv.killing && !sv.reap() {
		sv.log.Warn("supervisor: killing what is left", "because", why)
	}
	sv.killing = true
	killChildren()
}
