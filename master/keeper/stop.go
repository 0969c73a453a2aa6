package keeper

import (
	"time"

	"golang.org/x/sys/unix"

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
func (k *keeper) signalled(s stop, now time.Time) {
	if isSecond(k.firstSignal, now) {
		k.killAll("second " + s.by)
		return
	}
	k.stop(s)
	if k.firstSignal.IsZero() {
		k.firstSignal = time.Now() // when it was obeyed: what was sent with it has come by now
	}
}

// stop ends everything: all are told at once, and what is left at the deadline is killed. The deadline is the keeper's,
// for there may be no master, or one that does not run. While a stop is on its way another one changes nothing.
func (k *keeper) stop(s stop) {
	if k.stopping {
		return
	}
	k.stopping = true
	limit := k.stopLimit(s.quit)
	k.log.Info("keeper: stopping", "by", s.by, "within", limit.String())
	k.dl.kill = time.Now().Add(limit)
	k.sayStopping(limit)
	deadline := int64(monotime.Now().Add(limit - stopMargin(limit)))
	if k.attempt != nil {
		k.attempt.blame("stopping")
		k.abandonSuccessor()
	}
	if k.follow.pid != 0 {
		_ = unix.Kill(k.follow.pid, unix.SIGKILL)
	}
	if k.current == nil && k.starting != nil {
		_ = unix.Kill(k.starting.pid, unix.SIGKILL) // it has not taken over anything
	}
	k.post(wire.Stop{Deadline: deadline})
	// Before the workers are told: what they find in the queue then is all there will be.
	k.dropListeners()
	k.drainWorkers(deadline)
}

// stopMargin is kept of a stop's time, so that workers can say what they cut before they are killed.
func stopMargin(limit time.Duration) time.Duration { return min(500*time.Millisecond, limit/8) }

func (k *keeper) stopLimit(quit bool) time.Duration {
	t := wire.Preparing{StopTimeout: int64(defaultStop), DrainTimeout: int64(defaultDrain)}
	if k.current != nil && k.current.timeouts.StopTimeout > 0 {
		t = k.current.timeouts
	} else if k.lastTimeouts.StopTimeout > 0 {
		t = k.lastTimeouts
	}
	if quit {
		return time.Duration(t.DrainTimeout)
	}
	return time.Duration(t.StopTimeout)
}

// drainWorkers tells every worker by itself: the master may be stopped, or gone.
func (k *keeper) drainWorkers(deadline int64) {
	data, err := wire.Encode(wire.Drain{Deadline: deadline, Stop: true})
	if err != nil {
		k.log.Error("keeper: stop", "error", err)
		return
	}
	for _, name := range k.store.names(EntryWorker + "/") {
		if fd := k.store[name].fd; fd >= 0 {
			_ = unix.Sendmsg(fd, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		}
	}
}

// killAll kills every child, and then whoever becomes one, until there is none.
func (k *keeper) killAll(why string) {
	if !k.killing && !k.reap() {
		k.log.Warn("keeper: killing what is left", "because", why)
	}
	k.killing = true
	killChildren()
}
