package supervisor

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/supervisor/reexec/earlysignal"
)

func (sv *supervisor) onSignal(sig os.Signal) {
	switch sig {
	case syscall.SIGHUP:
		if sv.tty.hungUp() {
			sv.stop("hang-up of the terminal", false)
			return
		}
		sv.request("HUP", true)
	case syscall.SIGUSR2:
		sv.request("USR2", true)
	case syscall.SIGINT:
		sv.signalled("INT", false, time.Now())
	case syscall.SIGTERM:
		sv.signalled("TERM", false, time.Now())
	case syscall.SIGQUIT:
		sv.signalled("QUIT", true, time.Now())
	case syscall.SIGTTIN:
		sv.resizeBy(1)
	case syscall.SIGTTOU:
		sv.resizeBy(-1)
	case syscall.SIGUSR1:
		sv.reopenLogs()
	}
}

// heldSignals stay pending while no supervisor can obey them, over an execve too.
var heldSignals = sigset(unix.SIGUSR1, unix.SIGUSR2, unix.SIGTTIN, unix.SIGTTOU)

func sigset(signals ...unix.Signal) (set unix.Sigset_t) {
	for _, s := range signals {
		set.Val[0] |= 1 << (s - 1)
	}
	return set
}

// HoldSignals is called by the process that is about to execute the supervisor. A Go program goes on with the signals
// blocked that it starts with, in every thread but the one that os/signal has: so these four are blocked there as soon
// as nobody is notified of them, see holdSignals. The thread is the caller's from then on.
func HoldSignals() {
	runtime.LockOSThread()
	_ = unix.PthreadSigmask(unix.SIG_BLOCK, &heldSignals, nil)
}

// holdSignals is the last thing before an execve. What has come so far is obeyed.
//
// What comes from now on, until the new program is notified:
//
//	USR1, USR2, TTIN, TTOU  stay pending, and are obeyed then
//	HUP                     is ignored, in a Go program as well until it is notified; the master is asked to compare
//	CHLD                    is not needed: the new program reaps first thing
//	TERM, QUIT, INT         end the supervisor, and its end stops everything, gracefully, but with the exit code of a
//	                        signal
//
// The last line cannot be better in Go: its runtime unblocks these three (and HUP) in every thread as it starts, and
// installs handlers that end the process, for TERM and QUIT also where they are ignored (runtime.blockableSig,
// sigInstallGoHandler). A signal that is pending over the execve is delivered then, before any package is initialised.
// INT could be ignored, but then a Ctrl-C would be lost, and the end is what it asks for. (INT stays ignored where it
// was when the supervisor was started, which a shell does that starts it in the background.)
//
// As PID 1 of a container the supervisor does not end then: the kernel drops what a process of that number has no
// handler for.
//
// How long that lasts: a third of a millisecond up to the execve, the execve and the start of Go's runtime, and package
// earlysignal is the first that is notified. Measured on two busy CPUs: 4 to 7 ms, with the race detector 30 to 60 ms.
func (sv *supervisor) holdSignals() {
	signal.Ignore(syscall.SIGHUP)
	signal.Stop(sv.events.signals)                  // waits for those that are being delivered to the channel
	signal.Ignore(syscall.SIGTTIN, syscall.SIGTTOU) // and pending; see package earlysignal
	for {
		select {
		case sig := <-sv.events.signals:
			sv.onSignal(sig)
		default:
			return
		}
	}
}

// obeySignals undoes it.
func (sv *supervisor) obeySignals() {
	signal.Notify(sv.events.signals, earlysignal.Signals...)
	signal.Notify(sv.events.children, syscall.SIGCHLD)
}
