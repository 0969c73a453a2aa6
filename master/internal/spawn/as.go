package spawn

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// As calls f as u, as far as files are concerned. If this process may not become u, it just calls f.
func As(u User, f func() error) error {
	if u.isSelf() || MayBecome(u) != nil {
		return f()
	}
	visible, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		before, _ := capabilities()
		groups, err := unix.Getgroups()
		if err == nil {
			err = becomeForFiles(u.UID, u.GID, append([]int{u.GID}, u.Groups...))
		}
		if err == nil {
			err = f()
		}
		back := becomeForFiles(os.Geteuid(), os.Getegid(), groups)
		if after, _ := capabilities(); back == nil && after == before {
			runtime.UnlockOSThread() // else the thread ends here
		}
		done <- err
	}()
	err := <-done
	if visible == 1 { // see startUnprivileged
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	}
	return err
}

// becomeForFiles changes what decides about files, of the calling thread alone.
func becomeForFiles(uid, gid int, groups []int) error {
	ids := make([]uint32, len(groups)+1) // one more: there may be none
	for i, g := range groups {
		ids[i] = uint32(g)
	}
	call := uintptr(unix.SYS_SETGROUPS)
	if runtime.GOARCH == "386" || runtime.GOARCH == "arm" {
		call = 206 // setgroups32: the old one has numbers of 16 bits
	}
	if _, _, errno := unix.RawSyscall(call, uintptr(len(groups)), uintptr(unsafe.Pointer(&ids[0])), 0); errno != 0 {
		return errno
	}
	if err := unix.Setfsgid(gid); err != nil {
		return err
	}
	return unix.Setfsuid(uid)
}
