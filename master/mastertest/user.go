package mastertest

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedRoot skips the test for anybody but root.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("this test is for root: it becomes other users")
	}
}

// AsUser runs f as another user, on a thread of its own that ends with it. f makes raw system calls only: what else the
// runtime does for it may happen on other threads.
func AsUser(tb testing.TB, uid int, f func()) {
	tb.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		id := uintptr(uid)
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id)
		if errno != 0 {
			done <- errno
			return
		}
		f()
		close(done)
	}()
	if err := <-done; err != nil {
		tb.Fatalf("become user %d: %v", uid, err)
	}
}
