package supervisor

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/supervisor/earlysignal"
	"baton/worker/wire"
)

func (sv *supervisor) onSignal(sig os.Signal) {
	switch sig {
	case syscall.SIGHUP:
		if sv.tty.hungUp() {
			sv.stop(stop{by: "the end of the terminal"})
			return
		}
		sv.request("HUP", true)
	case syscall.SIGUSR2:
		sv.request("USR2", true)
	case syscall.SIGINT:
		sv.signalled(stop{by: "INT"}, time.Now())
	case syscall.SIGTERM:
		sv.signalled(stop{by: "TERM"}, time.Now())
	case syscall.SIGQUIT:
		sv.signalled(stop{by: "QUIT", quit: true}, time.Now())
	case syscall.SIGTTIN:
		sv.resizeBy(1)
	case syscall.SIGTTOU:
		sv.resizeBy(-1)
	case syscall.SIGUSR1:
		sv.reopenLogs()
	}
}

// reopenLogs tells the master, and in the middle of a reload the one that comes after it as well: a successor may have
// opened the file before somebody renamed it.
func (sv *supervisor) reopenLogs() {
	sv.tellReopen()
	sv.reopen = sv.attempt != nil || sv.current == nil || sv.current.phase != phaseCurrent
}

// heldSignals stay pending while no supervisor can obey them, over an execve too.
var heldSignals = sigset(unix.SIGUSR1, unix.SIGUSR2, unix.SIGTTIN, unix.SIGTTOU)

func sigset(signals ...unix.Signal) (set unix.Sigset_t) {
	for _, s := range signals {
		set.Val[0] |= 1 << (s - 1)
	}
	return set
}

// HoldSignals is called by the process that is about to execute the supervisor. A Go program goes on with the signals blocked
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
//	TERM, QUIT, INT         end the supervisor, and its end stops everything, gracefully, but the exit code is that of a signal
//
// The last line cannot be better in Go: its runtime unblocks these three (and HUP) in every thread as it starts, and
// installs handlers that end the process, for TERM and QUIT also where they are ignored (runtime.blockableSig,
// sigInstallGoHandler). A signal that is pending over the execve is delivered then, before any package is initialised.
// INT could be ignored, but then a Ctrl-C would be lost, and the end is what it asks for. (INT stays ignored where it was
// when the supervisor was started, which a shell does that starts it in the background.)
//
// As PID 1 of a container the supervisor does not end then: the kernel drops what a process of that number has no handler for.
//
// How long that lasts: a third of a millisecond up to the execve, the execve and the start of Go's runtime, and package
// early is the first that is notified. Measured on two busy CPUs: 4 to 7 ms, with the race detector 30 to 60 ms.
func (sv *supervisor) holdSignals() (quiet bool) {
	signal.Ignore(syscall.SIGHUP)
	signal.Stop(sv.signals)                         // waits for those that are on their way into the channel
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) // and pending; see package earlysignal
	for {
		select {
		case sig := <-sv.signals:
			sv.onSignal(sig)
		default:
			return sv.atRest() && sv.current.conn.Idle()
		}
	}
}

// obeySignals undoes it.
func (sv *supervisor) obeySignals() {
	signal.Notify(sv.signals, earlysignal.Signals...)
	signal.Notify(sv.children, syscall.SIGCHLD)
}

// post sends to the current master, if there is one.
func (sv *supervisor) post(m wire.Message) {
	if sv.current != nil {
		_ = sv.current.conn.Post(m)
	}
}

// request counts one reload request and returns its ID. unattended: nobody waits for the answer.
func (sv *supervisor) request(source string, unattended bool) int64 {
	sv.count++
	if unattended {
		sv.pace.ask(time.Now())
	}
	sv.log.Info("supervisor: reload requested", "by", source, "id", sv.count)
	return sv.count
}

func (sv *supervisor) tellReopen() {
	if sv.current != nil {
		sv.current.reopens++
		sv.post(message.Reopen{})
	}
}
