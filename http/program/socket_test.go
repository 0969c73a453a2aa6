package program

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSocketsOfTheKilled: the directory of a process that was killed is removed by the next one that begins or ends,
// and no other.
func TestSocketsOfTheKilled(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	dirs := func() []string {
		all, _ := filepath.Glob(tmp + "/*")
		return all
	}
	mine, err := newSocket()
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(tmp, socketDir+"left") // nobody has locked it
	if err := os.WriteFile(filepath.Join(tmp, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(left, "socket")})
		_ = unix.Close(fd)
	}
	if err != nil {
		t.Fatal(err)
	}
	other, err := newSocket()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(tmp, "file"), filepath.Dir(mine.name), filepath.Dir(other.name)}
	slices.Sort(want)
	if got := dirs(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	mine.release()
	other.release()
	if got := dirs(); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
}
