// Package early catches the signals of a keeper that has just executed a new binary, before anything else of the program
// runs: of what the go command links in, packages are initialised in the order of their paths as soon as what they import
// is, and this one imports next to nothing. What is not caught yet ends the process (see keeper.holdSignals).
package early

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// Env tells a process in the role of the keeper that there is a keeper's state: "state N" that it is to go on from the
// one in descriptor N, "check N" that it is to try to read that, and end.
const Env = "BATON_FOLLOW"

// Signals are what a keeper obeys.
var Signals = []os.Signal{
	syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGTTIN, syscall.SIGTTOU,
	syscall.SIGUSR1, syscall.SIGCHLD,
}

// Caught receives Signals in a keeper that goes on from a state; else it is nil.
var Caught chan os.Signal

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
		Caught = make(chan os.Signal, 64)
		signal.Notify(Caught, Signals...)
	}
	_ = os.Unsetenv(Env)
	State, Check = fd, what != "state"
	syscall.CloseOnExec(fd)
}
