// Package earlysignal catches the signals of a supervisor that has just executed a new binary, before anything else of
// the program runs: of what the go command links in, packages are initialised in the order of their paths as soon as
// what they import is, and this one imports next to nothing. What is not caught yet ends the process (see
// supervisor.holdSignals).
package earlysignal

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// Env tells a process in the role of the supervisor that there is a supervisor's state: "state N" that it is to go on
// from the one in descriptor N, "check N" that it is to try to read that, and end.
const Env = "BATON_REEXEC"

// Signals are what a supervisor obeys, those first that would end it if nobody caught them.
var Signals = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGTTIN, syscall.SIGTTOU,
	syscall.SIGUSR1,
}

// Caught receives Signals in a supervisor that goes on from a state, and Children receives SIGCHLD; else they are nil.
var Caught, Children chan os.Signal

// State is the descriptor of the state; -1: there is none. Check is set if it is only to be tried.
var (
	State = -1
	Check bool
)

func init() {
	what, number, _ := strings.Cut(os.Getenv(Env), " ")
	fd, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	if what == "state" {
		Caught, Children = make(chan os.Signal, 64), make(chan os.Signal, 1)
		catch()
	}
	_ = os.Unsetenv(Env)
	State, Check = fd, what != "state"
	syscall.CloseOnExec(fd)
}

// catch is notified of Signals. One that is pending comes through, except for TTIN and TTOU: os/signal unblocks these a
// moment before it handles them, and the one who has executed us has them ignored so that they do not stop us then. So
// they are taken before, and sent once more.
func catch() {
	var again []syscall.Signal
	for sig := taken(); sig > 0; sig = taken() {
		again = append(again, sig)
	}
	signal.Notify(Caught, Signals...)
	signal.Notify(Children, syscall.SIGCHLD)
	for _, sig := range again {
		_ = syscall.Kill(os.Getpid(), sig)
	}
}

// taken takes a pending TTIN or TTOU; 0: there is none.
func taken() syscall.Signal {
	set := uint64(1)<<(syscall.SIGTTIN-1) | uint64(1)<<(syscall.SIGTTOU-1)
	var now syscall.Timespec
	sig, _, err := syscall.RawSyscall6(syscall.SYS_RT_SIGTIMEDWAIT,
		uintptr(unsafe.Pointer(&set)), 0, uintptr(unsafe.Pointer(&now)), unsafe.Sizeof(set), 0, 0)
	if err != 0 {
		return 0
	}
	return syscall.Signal(sig)
}
