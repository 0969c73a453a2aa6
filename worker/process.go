package worker

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// RoleEnv is the environment variable by which a process of the tree knows what it is. It is not a security measure:
// it lets the same binary be supervisor, master and worker.
const RoleEnv = "BATON_ROLE"

// The values of RoleEnv.
const (
	RoleSupervisor = "supervisor"
	RoleMaster     = "master"
	RoleWorker     = "worker"
)

// role is read before main: it is taken out of the environment, so that no program which this one starts believes to
// be part of the tree, and the word that names the role in ps is taken out of os.Args, so that main finds its flags as
// they were typed.
var role = takeRole()

func takeRole() string {
	r := os.Getenv(RoleEnv)
	_ = os.Unsetenv(RoleEnv)
	if known := r == RoleSupervisor || r == RoleMaster || r == RoleWorker; known && len(os.Args) > 1 {
		os.Args = append(os.Args[:1:1], os.Args[2:]...)
	}
	return r
}

// Role is "" in the process that the user started, and else what the process was started as. It is something else if
// the user's environment says so.
func Role() string { return role }

// Spawned reports whether this process was started by a master. The worker processes execute the same binary as the
// master: main runs in each of them too. Call this before opening files, starting goroutines or printing.
func Spawned() bool { return role == RoleWorker }

// commMax is what the kernel keeps of a process's name.
const commMax = 15

// SetTitle names the process in ps and pgrep, as "baton worker 3"; without a number if n is negative. Names that the
// kernel would cut are written shorter, so that the number stays whole.
func SetTitle(role string, n int) {
	name := "baton " + role
	if n >= 0 {
		num := strconv.Itoa(n)
		for _, form := range []string{"baton %s %s", "baton %s%s", "baton %.1s%s"} {
			if name = fmt.Sprintf(form, role, num); len(name) <= commMax {
				break
			}
		}
	}
	// By the main thread's path: /proc/self/comm is the name of the thread that runs this.
	_ = os.WriteFile(fmt.Sprintf("/proc/self/task/%d/comm", os.Getpid()), []byte(name), 0)
}

// DropSignals catches what a terminal, systemd or tini send to every process of the tree, and SIGPIPE, so that a write
// to a broken pipe fails and does not kill. Caught, not ignored: an ignored signal stays ignored in every program that
// a handler starts. Masters and workers call it; only the supervisor obeys.
func DropSignals() {
	drop := []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGTTIN, syscall.SIGPIPE,
	}
	if leaveTerminal() {
		drop = append(drop, syscall.SIGTTOU)
	} else {
		signal.Ignore(syscall.SIGTTOU)
	}
	signal.Notify(make(chan os.Signal, 1), drop...)
}

// leaveTerminal gives up the controlling terminal, for this process and those that it starts, and reports whether
// there is none. A process in the background that writes to a terminal with `stty tostop` gets SIGTTOU instead, again
// and again if the signal is caught.
func leaveTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Is(err, unix.ENXIO)
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.IoctlSetInt(fd, unix.TIOCNOTTY, 0) == nil
}
