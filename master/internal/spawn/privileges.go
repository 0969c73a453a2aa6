package spawn

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// User is the user of a process, in numbers. Groups are all of its supplementary groups.
type User struct {
	UID, GID int
	Groups   []int
}

// ErrNotRoot is the reason of [MayBecome].
var ErrNotRoot = errors.New("only root, with the capabilities SETUID and SETGID, starts processes as somebody else")

// MayBecome says why this process cannot start others as u, or nil.
func MayBecome(u User) error {
	if u.isSelf() {
		return nil
	}
	data, err := capabilities()
	if err != nil {
		return err
	}
	const need = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	if os.Geteuid() != 0 || data[0].Effective&need != need {
		return ErrNotRoot
	}
	return nil
}

// isSelf reports whether this process runs as u already.
func (u User) isSelf() bool {
	return os.Getuid() == u.UID && os.Geteuid() == u.UID && os.Getgid() == u.GID && os.Getegid() == u.GID
}

// startUnprivileged starts a process as u, without any capability, and with no way to gain some: no_new_privs makes the
// kernel ignore what a file that it executes would give. All of that is inherited from the thread that forks, and
// cannot be taken back, so a thread of its own does it.
func startUnprivileged(u User, fork func(*syscall.Credential) (int, error)) (pid int, err error) {
	visible, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	done := make(chan struct{})
	thread() <- func() {
		defer close(done)
		if err = dropCapabilities(u); err == nil {
			pid, err = fork(u.credential())
		}
	}
	<-done
	err = u.explain(err)
	if visible == 1 {
		// Until it executed the program the child shared our memory as another user, and so the kernel has closed
		// /proc/PID of this process, which tools need.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
	return pid, err
}

// explain adds the likely cause to an error of the kernel.
func (u User) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("user %d may not execute the program: %w", u.UID, err)
	case errors.Is(err, unix.EPERM) && hasFileCapabilities():
		return fmt.Errorf("the program's file has capabilities, which the worker must not have; `setcap -r` takes "+
			"them away: %w", err)
	}
	return fmt.Errorf("as user %d, group %d: %w", u.UID, u.GID, err) // a user namespace may not have them
}

func hasFileCapabilities() bool {
	_, err := unix.Getxattr("/proc/self/exe", "security.capability", nil)
	return err == nil
}

// credential returns the identity that the child takes, or nil. The child leaves all groups of this process, even those
// that it shares with u.
func (u User) credential() *syscall.Credential {
	if u.isSelf() {
		return nil
	}
	c := &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
	for _, g := range u.Groups {
		c.Groups = append(c.Groups, uint32(g))
	}
	return c
}

// dropCapabilities makes the calling thread one whose children, once they are u and have executed a program, have no
// capability in any of the five sets. Without CAP_SETPCAP the bounding set stays, which gives nothing by itself.
func dropCapabilities(u User) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	data, err := capabilities()
	if err != nil {
		return err
	}
	if data[0].Effective&(1<<unix.CAP_SETPCAP) != 0 {
		if err := emptyBoundingSet(); err != nil {
			return err
		}
	}
	for i := range data {
		data[i].Inheritable = 0
		if u.isSelf() { // else the child needs them in order to become u, and loses them by it
			data[i].Effective, data[i].Permitted = 0, 0
		}
	}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// capabilities returns those of the calling thread.
func capabilities() (data [2]unix.CapUserData, err error) {
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return data, fmt.Errorf("capabilities: %w", err)
	}
	return data, nil
}

func emptyBoundingSet() error {
	for c := range uintptr(64) {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // there are no more
		}
		if err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	return nil
}

// thread returns the calls of a thread that lives as long as the process: /proc lists children by thread, and a reader
// of that list would miss some if threads came and went. It is not the main thread, whose privileges tools show as
// those of the process.
var thread = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	var serve func(locked chan<- struct{})
	serve = func(locked chan<- struct{}) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		close(locked)
		if unix.Gettid() == os.Getpid() { // hold the main thread until another one is locked
			other := make(chan struct{})
			go serve(other)
			<-other
			return
		}
		for f := range calls {
			f()
		}
	}
	go serve(make(chan struct{}))
	return calls
})
