package keeper

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker"
	"baton/worker/wire"
)

func (k *keeper) onSignal(sig os.Signal) {
	switch sig {
	case syscall.SIGCHLD:
		k.reap()
	case syscall.SIGHUP:
		if k.tty.hungUp() {
			k.log.Info("keeper: the terminal was closed, stopping")
			k.stop(wire.Stop{})
			return
		}
		k.request("HUP", true)
	case syscall.SIGUSR2:
		k.request("USR2", true)
	case syscall.SIGINT, syscall.SIGTERM:
		k.stop(wire.Stop{})
	case syscall.SIGQUIT:
		k.stop(wire.Stop{Quit: true})
	case syscall.SIGTTIN:
		k.resizeBy(1)
	case syscall.SIGTTOU:
		k.resizeBy(-1)
	case syscall.SIGUSR1:
		k.post(wire.Reopen{})
	}
}

// post sends to the current master, if there is one.
func (k *keeper) post(m wire.Message) {
	if k.current != nil {
		_ = k.current.conn.Post(m)
	}
}

// request counts one reload request and returns its ID. unattended: nobody waits for the answer.
func (k *keeper) request(source string, unattended bool) int64 {
	k.count++
	if unattended {
		k.pace.ask(time.Now())
	}
	k.log.Info("keeper: reload requested", "by", source, "id", k.count)
	return k.count
}

func (k *keeper) resizeBy(delta int) {
	k.resizeSeq++
	r := wire.Resize{Delta: delta, Seq: k.resizeSeq}
	k.resizes = append(k.resizes, r)
	if k.current != nil && k.current.alone { // else it is told as soon as it is
		k.post(r)
	}
}

// resized: the number of slots that is in the store has everything in it that was asked for up to seq.
func (k *keeper) resized(seq int64) {
	for len(k.resizes) > 0 && k.resizes[0].Seq <= seq {
		k.resizes = k.resizes[1:]
	}
}

// stop ends everything: all are told at once, and what is left at the deadline is killed. The deadline is the keeper's,
// for there may be no master, or one that does not run. A second stop kills now.
func (k *keeper) stop(s wire.Stop) {
	if k.stopping {
		k.killAll("second stop")
		return
	}
	k.stopping = true
	limit := k.stopLimit(s.Quit)
	k.log.Info("keeper: stopping", "within", limit)
	k.dl.kill = time.Now().Add(limit)
	s.Deadline = worker.Monotonic() + int64(limit-stopMargin(limit))
	if k.attempt != nil {
		k.attempt.blame("stopping")
		k.abandonSuccessor()
	}
	if k.current == nil && k.starting != 0 {
		_ = unix.Kill(k.starting, unix.SIGKILL) // it has not taken over anything
	}
	k.post(s)
	// Before the workers are told: what they find in the queue then is all there will be.
	for _, name := range k.store.names(EntryListen + "/") {
		k.store.drop(name)
	}
	k.drainWorkers(s.Deadline)
	if s.Now {
		k.killAll("stop now")
	}
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
