package sockets

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

// bound is a socket that the test's end closes.
func bound(t *testing.T, a Addr) int {
	t.Helper()
	fd, err := Bind(a, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func listening(t *testing.T, a Addr) int {
	t.Helper()
	fd := bound(t, a)
	if err := Listen(fd); err != nil {
		t.Fatal(err)
	}
	return fd
}

// knock connects to fd's own address.
func knock(fd int) error {
	network, address := "tcp", Local(fd)
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	c, err := net.Dial(network, address)
	if err == nil {
		_ = c.Close()
	}
	return err
}

func TestBindDoesNotListen(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			if !haveIPv6() && strings.HasPrefix(address, "[") {
				t.Skip("no IPv6")
			}
			fd := bound(t, resolve(t, address, "tcp"))
			if err := knock(fd); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("before Listen: %v", err)
			}
			if err := Listen(fd); err != nil {
				t.Fatal(err)
			}
			if err := knock(fd); err != nil {
				t.Error(err)
			}
			if err := Listen(fd); err != nil {
				t.Error("once more:", err)
			}
		})
	}
}

func TestSocketFlags(t *testing.T) {
	t.Parallel()
	fd := bound(t, resolve(t, "127.0.0.1:0", "tcp"))
	if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || f&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %x, %v", f, err)
	}
	if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || f&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %x, %v", f, err)
	}
	if p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || p != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, %v", p, err)
	}
}

func TestWildcardIsBothFamilies(t *testing.T) {
	t.Parallel()
	fd := listening(t, resolve(t, ":0", "tcp"))
	_, port, err := net.SplitHostPort(Local(fd))
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"127.0.0.1"}
	if haveIPv6() {
		hosts = append(hosts, "::1")
	}
	for _, h := range hosts {
		c, err := net.Dial("tcp", net.JoinHostPort(h, port))
		if err != nil {
			t.Error(err)
			continue
		}
		_ = c.Close()
	}
}

func TestTakenPortIsFoundByBind(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1:", "[::1]:"} {
		if host != "127.0.0.1:" && !haveIPv6() {
			continue
		}
		ln, err := net.Listen("tcp", host+"0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		fd, err := Bind(resolve(t, ln.Addr().String(), "tcp"), 0)
		if !errors.Is(err, syscall.EADDRINUSE) || fd != -1 || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%d, %v", fd, err)
		}
	}
}

func TestUDP(t *testing.T) {
	t.Parallel()
	fd := bound(t, resolve(t, "127.0.0.1:0", "udp"))
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
		t.Errorf("type %d, %v", kind, err)
	}
	if other, err := Bind(resolve(t, Local(fd), "udp"), 0); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%d, %v", other, err)
	}
}

// long is a path that no socket address holds.
func long(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "s")
}

// reach connects to a Unix socket through its folder, which works for every length.
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
			listening(t, resolve(t, "unix:"+path, "tcp"))
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
	for _, path := range []string{filepath.Join(t.TempDir(), strings.Repeat("n", 120)), filepath.Join(long(t), "no", "folder")} {
		if fd, err := Bind(resolve(t, "unix:"+path, "tcp"), 0o600); err == nil || !strings.Contains(err.Error(), path) {
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
			first := bound(t, a)
			if err := Listen(first); err != nil {
				t.Fatal(err)
			}
			if fd, err := Bind(a, 0o600); !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatalf("somebody listens there: %d, %v", fd, err)
			}
			if err := reach(t, path); err != nil {
				t.Errorf("he does not any more: %v", err)
			}
			if err := unix.Shutdown(first, unix.SHUT_RDWR); err != nil { // as a crash does
				t.Fatal(err)
			}
			listening(t, a)
			if err := reach(t, path); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatIsNoSocketStays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, folder, link := filepath.Join(dir, "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Mkdir(folder, 0o700), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for path, kind := range map[string]string{file: "a file", folder: "a directory", link: "a symbolic link"} {
		before, _ := os.Lstat(path)
		fd, err := Bind(resolve(t, "unix:"+path, "tcp"), 0o600)
		if err == nil || errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s: %d, %v, want the word that it is %s", path, fd, err, kind)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was replaced: %v", path, err)
		}
	}
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	fd := bound(t, resolve(t, "127.0.0.1:0", "udp"))
	if err := Listen(fd); err == nil || !strings.Contains(err.Error(), Local(fd)) {
		t.Error(err)
	}
	if Local(-1) != "" {
		t.Error("an address of nothing")
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
				dead, err := Bind(a, 0o600)
				if err != nil {
					t.Fatal(err)
				}
				_ = unix.Close(dead)
				fds, errs := make(chan int, 8), make(chan error, 8)
				for range 8 {
					go func() {
						fd, err := Bind(a, 0o600)
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
	listening(t, resolve(t, "unix:"+path, "tcp"))
	same := filepath.Join(filepath.Dir(path), ".", "s")
	if one, err := lockName(path); err != nil || one[0] != '@' {
		t.Errorf("%q, %v", one, err)
	} else if two, _ := lockName(same); one != two {
		t.Errorf("%q is locked by %q and by %q", path, one, two)
	}
}
