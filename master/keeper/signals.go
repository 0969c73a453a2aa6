package keeper

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/keeper/internal/early"
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

// heldSignals stay pending while no keeper can obey them, over an execve too.
var heldSignals = sigset(unix.SIGUSR1, unix.SIGUSR2, unix.SIGTTIN, unix.SIGTTOU)

func sigset(signals ...unix.Signal) (set unix.Sigset_t) {
	for _, s := range signals {
		set.Val[0] |= 1 << (s - 1)
	}
	return set
}

// HoldSignals is called by the process that is about to execute the keeper. A Go program goes on with the signals blocked
// that it starts with, in every thread but the one that os/signal has: so these four are blocked there as soon as nobody
// is notified of them, see holdSignals. The thread is the caller's from then on.
func HoldSignals() {
	runtime.LockOSThread()
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &heldSignals, nil)
}

// spawnFrom starts a process, in which no signal is blocked on our account.
func spawnFrom(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &heldSignals, &before)
	pid, err = syscall.ForkExec(path, argv, attr)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return pid, err
}

// holdSignals is the last thing before an execve. What has come so far is obeyed; false: that has been something.
//
// What comes from now on, until the new program is notified:
//
//	USR1, USR2, TTIN, TTOU  stay pending, and are obeyed then
//	HUP                     is ignored, in a Go program as well until it is notified; the master is asked to compare
//	CHLD                    is not needed: the new program reaps first thing
//	TERM, QUIT, INT         end the keeper, and its end stops everything, gracefully, but the exit code is that of a signal
//
// The last line cannot be better in Go: its runtime unblocks these three (and HUP) in every thread as it starts, and
// installs handlers that end the process, for TERM and QUIT also where they are ignored (runtime.blockableSig,
// sigInstallGoHandler). A signal that is pending over the execve is delivered then, before any package is initialised.
// INT could be ignored, but then a Ctrl-C would be lost, and the end is what it asks for. (INT stays ignored where it was
// when the keeper was started, which a shell does that starts it in the background.)
//
// As PID 1 of a container the keeper does not end then: the kernel drops what a process of that number has no handler for.
//
// How long that lasts: a third of a millisecond up to the execve, the execve and the start of Go's runtime, and package
// early is the first that is notified. Measured on two busy CPUs: 4 to 7 ms, with the race detector 30 to 60 ms.
func (k *keeper) holdSignals() (quiet bool) {
	signal.Ignore(syscall.SIGHUP)
	signal.Stop(k.signals)                          // waits for those that are on their way into the channel
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) // and pending; see package early
	for {
		select {
		case sig := <-k.signals:
			k.onSignal(sig)
		default:
			return k.atRest() && k.current.conn.Idle()
		}
	}
}

// obeySignals undoes it.
func (k *keeper) obeySignals() { signal.Notify(k.signals, early.Signals...) }

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
	k.sayStopping(limit)
	s.Deadline = worker.Monotonic() + int64(limit-stopMargin(limit))
	if k.attempt != nil {
		k.attempt.blame("stopping")
		k.abandonSuccessor()
	}
	if k.follow.pid != 0 {
		_ = unix.Kill(k.follow.pid, unix.SIGKILL)
	}
	if k.current == nil && k.starting != 0 {
		_ = unix.Kill(k.starting, unix.SIGKILL) // it has not taken over anything
	}
	k.post(s)
	// Before the workers are told: what they find in the queue then is all there will be.
	k.dropListeners()
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
