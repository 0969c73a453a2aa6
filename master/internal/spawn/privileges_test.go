package spawn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var statusEnv = []string{"TEST_STATUS=1", "GORACE=atexit_sleep_ms=0"}

// sayStatus is a child that says of each of its threads what it may do.
func sayStatus() {
	said := os.NewFile(3, "control")
	threads, _ := filepath.Glob("/proc/self/task/*/status")
	for _, name := range threads {
		b, _ := os.ReadFile(name)
		_, _ = said.Write(b)
	}
	_ = said.Close()
	os.Exit(0)
}

// want fails the test unless each thread says these lines.
func want(t *testing.T, said string, lines ...string) {
	t.Helper()
	threads := strings.Count(said, "Name:")
	if threads == 0 {
		t.Fatalf("no thread: %q", said)
	}
	for _, line := range lines {
		if n := strings.Count(said, "\n"+line+"\n"); n != threads {
			t.Errorf("%d of %d threads say %q:\n%s", n, threads, line, said)
		}
	}
}

func caps(set string, value uint64) string { return fmt.Sprintf("Cap%s:\t%016x", set, value) }

func TestStartAsAnotherUser(t *testing.T) {
	t.Parallel()
	u := User{UID: 4711, GID: 4712, Groups: []int{4712, 4713}}
	if err := MayBecome(u); err != nil {
		t.Skip("this test is for root:", err)
	}
	for range 3 { // the thread is the same each time
		pid, said := listen(t, Spec{Argv: []string{"x"}, Env: statusEnv, User: &u})
		want(t, said, "Uid:\t4711\t4711\t4711\t4711", "Gid:\t4712\t4712\t4712\t4712", "Groups:\t4712 4713 ",
			"NoNewPrivs:\t1",
			caps("Inh", 0), caps("Prm", 0), caps("Eff", 0), caps("Bnd", 0), caps("Amb", 0))
		if code := wait(t, pid); code != 0 {
			t.Errorf("exit status %d", code)
		}
	}
	own, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	want(t, string(own), "NoNewPrivs:\t0") // of this process nothing has changed
	if visible, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || visible != 1 {
		t.Errorf("this process is hidden: %d, %v", visible, err)
	}
}

// TestStartAsOneself needs nobody's permission, and takes every privilege away all the same.
func TestStartAsOneself(t *testing.T) {
	t.Parallel()
	u := User{UID: os.Getuid(), GID: os.Getgid()}
	if err := MayBecome(u); err != nil {
		t.Fatal(err)
	}
	if u.UID == 0 {
		t.Skip("root would get its capabilities back by executing a program; MayStart refuses it")
	}
	pid, said := listen(t, Spec{Argv: []string{"x"}, Env: statusEnv, User: &u})
	want(t, said, "NoNewPrivs:\t1", caps("Inh", 0), caps("Prm", 0), caps("Eff", 0), caps("Amb", 0))
	wait(t, pid)
}

func TestStartWithoutUserKeepsPrivileges(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	pid, said := listen(t, Spec{Argv: []string{"x"}, Env: statusEnv})
	for line := range strings.Lines(string(own)) {
		if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "NoNewPrivs:") ||
			strings.HasPrefix(line, "CapPrm:") {
			want(t, said, strings.TrimSuffix(line, "\n"))
		}
	}
	wait(t, pid)
}
