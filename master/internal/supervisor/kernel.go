package supervisor

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"baton/master/internal/supervisor/reexec"
)

// kernel is what the supervisor does to processes. A test plays it, with processes that are none.
type kernel interface {
	// start starts a process in which no signal is blocked.
	start(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error)
	// wait reaps a child that has exited: pid 0 if there is none, ECHILD if there are no children at all.
	wait() (pid int, ws unix.WaitStatus, err error)
	// isChild reports whether pid is a child that has not been reaped. Nothing else may be signalled by its number.
	isChild(pid int) bool
	// children lists the children.
	children() []int
	signal(pid int, sig unix.Signal)
	// killAttempt kills what is left of a reload, below this process.
	killAttempt(id string, workers []int)
	// open returns a pidfd, which stays the same process when its number is reused; -1 where the kernel has no such
	// thing.
	open(pid int) (pidfd int)
	kill(pidfd int)
	// instanceOf returns what a process that runs a program has in its environment, if it is one.
	instanceOf(pid int) (instance, bool)
	// signalGroup signals the process group of a child that is another one than this process's, else only the child.
	signalGroup(pid int, sig unix.Signal)
	// executable returns the file that a process executes.
	executable(pid int) reexec.FileID
}

// linux is the real one.
type linux struct{}

func (linux) start(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &heldSignals, &before)
	pid, err = syscall.ForkExec(path, argv, attr)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return pid, err
}

func (linux) wait() (pid int, ws unix.WaitStatus, err error) {
	for {
		pid, err = unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err != unix.EINTR {
			return max(0, pid), ws, err
		}
	}
}

func (linux) isChild(pid int) bool {
	if pid <= 0 {
		return false
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == nil
		}
	}
}

func (linux) children() []int                 { return children(os.Getpid()) }
func (linux) signal(pid int, sig unix.Signal) { _ = unix.Kill(pid, sig) }
func (linux) kill(pidfd int)                  { _ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0) }

func (linux) open(pid int) (pidfd int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1
	}
	return fd
}
