package reexec

import (
	"testing"

	"golang.org/x/sys/unix"
)

// What must stay open over an execve is open for nothing else.
func TestKeepOpen(t *testing.T) {
	t.Parallel()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) }()
	flags := func() (all int) {
		for _, fd := range fds {
			f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err != nil {
				t.Fatal(err)
			}
			all += f
		}
		return all
	}
	var during int
	if err := keepOpen(fds[:], func() error { during = flags(); return unix.ENOEXEC }); err == nil {
		t.Error("no error of a failed execve")
	}
	if during != 0 || flags() != len(fds)*unix.FD_CLOEXEC {
		t.Errorf("close-on-exec of %d during, %d after", during, flags())
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ws     unix.WaitStatus
		output string
		want   string
	}{
		{0, "hello\n" + Understood + "\n", ""},
		{0, Understood + "\nbut", "dry run: exit status 0: but"},
		{1 << 8, Understood + "\n", "dry run: exit status 1: " + Understood},
		{9, "", "dry run: signal killed: not a word"},
	} {
		got := ""
		if err := verdict(tt.ws, tt.output); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
