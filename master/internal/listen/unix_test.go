package listen

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// long is a path that no socket address holds.
func long(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "s")
}

// reach connects to a Unix socket through its directory, which works for every length.
func reach(t *testing.T, path string) error {
	t.Helper()
	short, done, err := shorten(path)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	c, err := net.Dial("unix", short)
	if err == nil {
		_ = c.Close()
	}
	return err
}

func TestUnixPaths(t *testing.T) {
	t.Parallel()
	limit := filepath.Join(t.TempDir(), "x")
	limit += strings.Repeat("x", maxPath-len(limit))
	for name, path := range map[string]string{
		"short": filepath.Join(t.TempDir(), "s"), "just fits": limit, "just does not": limit + "x", "long": long(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listeningAt(t, resolve(t, "unix:"+path, "tcp"))
			fi, err := os.Lstat(path)
			if err != nil || fi.Mode() != os.ModeSocket|0o600 {
				t.Fatalf("%v, %v", fi, err)
			}
			if err := reach(t, path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnixNameThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		filepath.Join(t.TempDir(), strings.Repeat("n", 120)), filepath.Join(long(t), "no", "directory"),
	} {
		if fd, err := open(resolve(t, "unix:"+path, "tcp")); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%d, %v", fd, err)
		}
	}
}

func TestUnixPathThatIsThere(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"short": filepath.Join(t.TempDir(), "s"), "long": long(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := resolve(t, "unix:"+path, "tcp")
			first := boundTo(t, a)
			if err := listen(first); err != nil {
				t.Fatal(err)
			}
			if fd, err := open(a); !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatalf("somebody listens there: %d, %v", fd, err)
			}
			if err := reach(t, path); err != nil {
				t.Errorf("he does not any more: %v", err)
			}
			if err := unix.Shutdown(first, unix.SHUT_RDWR); err != nil { // as a crash does
				t.Fatal(err)
			}
			listeningAt(t, a)
			if err := reach(t, path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatIsNoSocketStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, directory, link := filepath.Join(dir, "file"), filepath.Join(dir, "directory"), filepath.Join(dir, "link")
	err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Mkdir(directory, 0o700), os.Symlink(file, link))
	if err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{file: "a file", directory: "a directory", link: "a symbolic link"} {
		before, _ := os.Lstat(path)
		fd, err := open(resolve(t, "unix:"+path, "tcp"))
		if err == nil || errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s: %d, %v, want the word that it is %s", path, fd, err, kind)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was replaced: %v", path, err)
		}
	}
}

// Of several who find the socket of a dead one at the same time, one takes it over, and is not taken over.
func TestOneOfManyTakesOver(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"short": filepath.Join(t.TempDir(), "s"), "long": long(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := resolve(t, "unix:"+path, "tcp")
			for range 20 {
				dead, err := open(a)
				if err != nil {
					t.Fatal(err)
				}
				_ = unix.Close(dead)
				fds, errs := make(chan int, 8), make(chan error, 8)
				for range 8 {
					go func() {
						fd, err := open(a)
						fds <- fd
						errs <- err
					}()
				}
				won := 0
				var held []int
				for range 8 {
					switch fd, err := <-fds, <-errs; {
					case fd >= 0:
						won++
						held = append(held, fd)
					case err != nil && !errors.Is(err, syscall.EADDRINUSE):
						t.Error(err)
					}
				}
				if won != 1 {
					t.Fatalf("%d have won", won)
				}
				if err := reach(t, path); err != nil {
					t.Errorf("the winner does not listen: %v", err)
				}
				_ = unix.Close(held[0])
			}
		})
	}
}

// Whoever holds the lock of a path for ever keeps nobody from it for ever.
func TestLockOfAPathIsNoBarrier(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	unlock := lockPath(path)
	defer unlock()
	listeningAt(t, resolve(t, "unix:"+path, "tcp"))
}

// socketAt makes a socket's file as bind does, with mode, less the umask.
func socketAt(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Fchmod(fd, uint32(mode.Perm())); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Mode().Perm()
}

// TestModeFromTheFirstMoment: nobody can get at the file between bind and a chmod.
func TestModeFromTheFirstMoment(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	socketAt(t, path, 0o600)
	if m := mode(t, path); m&^0o600 != 0 {
		t.Errorf("right after bind: %v", m)
	}
}

func TestGiveMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	socketAt(t, path, 0o600)
	for _, want := range []os.FileMode{0o666, 0o666, 0o600} {
		if err := giveMode(path, want); err != nil || mode(t, path) != want {
			t.Errorf("%v, want %v: %v", mode(t, path), want, err)
		}
	}
}

// TestGiveModeFollowsNoLink: in a directory of somebody else the path may be a link to a file of ours by then.
func TestGiveModeFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	private, second := filepath.Join(dir, "private"), filepath.Join(dir, "second")
	socketAt(t, private, 0o600)
	if err := errors.Join(os.Symlink("secret", link), os.Symlink("private", second)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, second, secret, filepath.Join(dir, "nothing")} {
		if err := giveMode(path, 0o666); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
	for _, path := range []string{secret, private} {
		if m := mode(t, path); m&^0o600 != 0 {
			t.Errorf("%s, behind a link: %v", path, m)
		}
	}
}
