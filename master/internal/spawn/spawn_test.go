package spawn

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain: a child says what it was given on its control descriptor.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_STATUS") != "" {
		sayStatus()
	}
	if os.Getenv("TEST_CHILD") != "" {
		dir, _ := os.Getwd()
		pgid, _ := unix.Getpgid(0)
		own := "no"
		if pgid == os.Getpid() {
			own = "yes"
		}
		_, _ = os.NewFile(3, "control").WriteString(strings.Join(append(os.Args, dir, own), "\n"))
		os.Exit(7)
	}
	os.Exit(m.Run())
}

func TestStart(t *testing.T) {
	t.Parallel()
	pid, got := listen(t, Spec{Argv: []string{"/a/path", "worker 3"}, Env: []string{"TEST_CHILD=1"}})
	dir, _ := os.Getwd()
	if want := "/a/path\nworker 3\n" + dir + "\nyes"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if code := wait(t, pid); code != 7 {
		t.Errorf("exit status %d", code)
	}
}

// listen starts a process and reads all that it says on its control descriptor.
func listen(t *testing.T, s Spec) (pid int, said string) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(p[0]), "pipe")
	defer func() { _ = r.Close() }()
	s.Control = p[1]
	pid, err := Start(s)
	_ = unix.Close(p[1])
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return pid, string(b)
}

// wait returns the exit status.
func wait(t *testing.T, pid int) int {
	t.Helper()
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(pid, &ws, 0, nil)
		if err == nil {
			return ws.ExitStatus()
		}
		if !errors.Is(err, syscall.EINTR) {
			t.Fatal(err)
		}
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	if pid, err := Start(Spec{Argv: []string{"/a/path"}, Env: []string{"NUL=\x00"}, Control: 0}); err == nil ||
		!strings.Contains(err.Error(), "/a/path") {
		t.Errorf("%d, %v", pid, err)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"nothing": {}, "little": []byte("hello"), "much": bytes.Repeat([]byte("x"), 5<<20),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fd, err := Memory("test", b)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			for range 2 { // the offset, which all holders share, is not touched
				if got, err := ReadMemory(fd); err != nil || !bytes.Equal(got, b) {
					t.Errorf("%d of %d bytes, %v", len(got), len(b), err)
				}
			}
			if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || f&unix.FD_CLOEXEC == 0 {
				t.Errorf("flags %x, %v", f, err)
			}
		})
	}
}

func TestMemoryIsSealed(t *testing.T) {
	t.Parallel()
	fd, err := Memory("test", []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Pwrite(fd, []byte("j"), 0); err != unix.EPERM {
		t.Errorf("write: %v", err)
	}
	for _, size := range []int64{0, 100} {
		if err := unix.Ftruncate(fd, size); err != unix.EPERM {
			t.Errorf("truncate to %d: %v", size, err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); err != unix.EPERM {
		t.Errorf("another seal: %v", err)
	}
	if b, err := ReadMemory(fd); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestReadMemoryOfNothing(t *testing.T) {
	t.Parallel()
	if b, err := ReadMemory(-1); err == nil {
		t.Errorf("%q", b)
	}
}
