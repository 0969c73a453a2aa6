package master

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/ownfile"
	"baton/worker/wire"
)

// TestPIDFileInUse: our PID is 7.
func TestPIDFileInUse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		p    pidFile
		want string // in the reason; "": it is replaced
	}{
		{"empty", pidFile{}, ""},
		{"of a process that has exited", pidFile{pid: 12}, ""},
		{"of a process that runs", pidFile{pid: 12, running: true}, "process 12 is running"},
		{"of another baton, whose PID is not known here", pidFile{pid: 12, locked: true}, "process 12 is running"},
		{"of another baton in a container", pidFile{pid: 7, locked: true, running: true}, "process 7 is running"},
		{"of this container's last start", pidFile{pid: 7, running: true}, ""},
	} {
		err := tt.p.inUse(7)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestPIDFile: what is at the path decides whether there is our PID afterwards, and nothing else is touched.
func TestPIDFile(t *testing.T) {
	t.Parallel()
	live := exec.CommandContext(t.Context(), "sleep", "1000")
	dead := exec.CommandContext(t.Context(), "true")
	if err := errors.Join(live.Start(), dead.Run()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = live.Process.Kill(); _ = live.Wait() })
	number := func(c *exec.Cmd) string { return strconv.Itoa(c.Process.Pid) + "\n" }
	put := func(text string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string)
		want string // in the reason
	}{
		{"nothing", func(*testing.T, string) {}, ""},
		{"empty", put(""), ""},
		{"the number of a dead process", put(number(dead)), ""},
		{"the number of a living process", put(number(live)), "is running"},
		{"the number of a process that is younger than the file", func(t *testing.T, path string) {
			put(number(live))(t, path)
			if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
		}, ""},
		{"without a newline, with spaces", put(" " + strings.TrimSpace(number(dead))), ""},
		{"a text", put("precious"), "no PID file"},
		{"a config file", put("workers = 2\n"), "no PID file"},
		{"a number and more", put("12\n13\n"), "no PID file"},
		{"below 1", put("-1\n"), "no PID file"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "a directory"},
		{"a socket", func(t *testing.T, path string) {
			if err := unix.Mknod(path, unix.S_IFSOCK|0o600, 0); err != nil {
				t.Fatal(err)
			}
		}, "a socket"},
		{"a link", func(t *testing.T, path string) {
			put("12\n")(t, path+".secret")
			if err := os.Symlink(path+".secret", path); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"another baton's", func(t *testing.T, path string) {
			if _, _, err := writePIDFile(path, 1<<22+1, wire.Path{}); err != nil { // no process has that number
				t.Fatal(err)
			}
		}, "is running"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "b\xff.pid")
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			check := checkPIDFile(path, 7, wire.Path{})
			fd, f, err := writePIDFile(path, 7, wire.Path{})
			after, _ := os.ReadFile(path)
			if (check == nil) != (err == nil) {
				t.Errorf("check says %v, writing it %v", check, err)
			}
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
				if string(after) != string(before) {
					t.Errorf("was %q, is %q", before, after)
				}
				return
			}
			fi, serr := os.Lstat(path)
			if err != nil || serr != nil || string(after) != "7\n" || fi.Mode() != 0o644 || !ownfile.Is(f) {
				t.Errorf("%q, %v, %v, %+v", after, err, fi, f)
			}
			if err := checkPIDFile(path, 8, wire.Path{}); err == nil ||
				!strings.Contains(err.Error(), "process 7 is running") {
				t.Errorf("for another one: %v", err)
			}
			_ = unix.Close(fd) // as its end does
			if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// TestPIDFileWrittenTo: somebody has written to our file; the next reload makes it anew.
func TestPIDFileWrittenTo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pid")
	_, f, err := writePIDFile(path, 7, wire.Path{})
	if err == nil {
		err = os.WriteFile(path, []byte("precious"), 0o600)
	}
	if err != nil || ownfile.Is(f) {
		t.Fatalf("%+v, %v", f, err)
	}
	if err := checkPIDFile(path, 7, f); err != nil {
		t.Error(err)
	}
	if _, f, err = writePIDFile(path, 7, f); err != nil || !ownfile.Is(f) {
		t.Errorf("%+v, %v", f, err)
	}
}

// TestPIDFileWithoutADirectory: the error names what the user has named.
func TestPIDFileWithoutADirectory(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "no", "b.pid")
	check := checkPIDFile(path, 7, wire.Path{})
	_, _, err := writePIDFile(path, 7, wire.Path{})
	for _, err := range []error{check, err} {
		if want := "pid_file " + path + ": no such file or directory"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
