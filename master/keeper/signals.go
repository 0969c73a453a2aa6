package keeper

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/keeper/internal/early"
	"baton/worker/wire"
)

func (k *keeper) onSignal(sig os.Signal) {
	switch sig {
	case syscall.SIGHUP:
		if k.tty.hungUp() {
			k.stop(stop{by: "the end of the terminal"})
			return
		}
		k.request("HUP", true)
	case syscall.SIGUSR2:
		k.request("USR2", true)
	case syscall.SIGINT:
		k.signalled(stop{by: "INT"}, time.Now())
	case syscall.SIGTERM:
		k.signalled(stop{by: "TERM"}, time.Now())
	case syscall.SIGQUIT:
		k.signalled(stop{by: "QUIT", quit: true}, time.Now())
	case syscall.SIGTTIN:
		k.resizeBy(1)
	case syscall.SIGTTOU:
		k.resizeBy(-1)
	case syscall.SIGUSR1:
		k.reopenLogs()
	}
}

// reopenLogs tells the master, and in the middle of a reload the one that comes after it as well: a successor may have
// opened the file before somebody renamed it.
func (k *keeper) reopenLogs() {
	k.tellReopen()
	k.reopen = k.attempt != nil || k.current == nil || k.current.phase != phaseCurrent
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
func (k *keeper) obeySignals() {
	signal.Notify(k.signals, early.Signals...)
	signal.Notify(k.children, syscall.SIGCHLD)
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

func (k *keeper) tellReopen() {
	if k.current != nil {
		k.current.reopens++
		k.post(wire.Reopen{})
	}
}
