package mastertest

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedRoot skips the test for anybody but root, and for a root that may not become other users.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("this test is for root: it becomes other users")
	}
	if err := asUser(4711, func() {}); err != nil {
		tb.Skipf("this test is for a root that may become other users: %v", err)
	}
	if err := exec.Command("setpriv", "--version").Run(); err != nil {
		tb.Skipf("this test needs setpriv(1): %v", err)
	}
}

// AsUser runs f as another user, on a thread of its own that ends with it. f makes raw system calls only: what else the
// runtime does for it may happen on other threads.
func AsUser(tb testing.TB, uid int, f func()) {
	tb.Helper()
	if err := asUser(uid, f); err != nil {
		tb.Fatalf("become user %d: %v", uid, err)
	}
}

func asUser(uid int, f func()) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		id := uintptr(uid)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 {
			done <- errno
			return
		}
		f()
		done <- nil
	}()
	return <-done
}
