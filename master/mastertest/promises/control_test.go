package promises_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestControlSocketIsTheOwners: by its mode, and if that is changed, by whom the kernel says the peer is.
func TestControlSocketIsTheOwners(t *testing.T) {
	t.Parallel()
	b := start(t, unwatchedSite(t))
	path := b.Path("baton.sock")
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	mastertest.NeedRoot(t)
	if err := os.Chmod(b.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, asked := range []string{"GET /status", "POST /stop"} {
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if answer, err := askAs(t, 4711, path, asked); !errors.Is(err, unix.EACCES) {
			t.Errorf("%s as user 4711: %v, %s", asked, err, answer)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
		answer, err := askAs(t, 4711, path, asked)
		if err != nil || !strings.Contains(answer, " 403 ") || !strings.Contains(answer, "user 4711") {
			t.Errorf("%s as user 4711, mode 0666: %v, %s", asked, err, answer)
		}
	}
	if answer, err := askAs(t, 0, path, "GET /status"); err != nil || !strings.Contains(answer, " 200 ") {
		t.Errorf("as root: %v, %s", err, answer)
	}
	b.Reload()
	b.Stop()
}

// askAs asks a Unix socket as another user.
func askAs(tb testing.TB, uid int, path, what string) (answer string, err error) {
	tb.Helper()
	mastertest.AsUser(tb, uid, func() {
		var fd int
		if fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return
		}
		defer func() { _ = unix.Close(fd) }()
		if err = unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return
		}
		if _, err = unix.Write(fd, []byte(what+" HTTP/1.1\r\nHost: baton\r\n\r\n")); err != nil {
			return
		}
		buf := make([]byte, 4096)
		for {
			n, e := unix.Read(fd, buf)
			if e == unix.EINTR {
				continue
			}
			if answer += string(buf[:max(0, n)]); n <= 0 {
				err = e
				return
			}
		}
	})
	return answer, err
}

// TestLongControlPath: the commands work with a socket whose path no socket address can hold, typed absolute, relative
// and through a link.
func TestLongControlPath(t *testing.T) {
	t.Parallel()
	deep := filepath.Join(strings.Repeat("a", 60), strings.Repeat("b", 60))
	for name, tc := range map[string]struct{ listen, ask string }{
		"relative":       {deep + "/c.sock", deep + "/c.sock"},
		"absolute":       {"DIR/" + deep + "/c.sock", "DIR/" + deep + "/c.sock"},
		"through a link": {"link/c.sock", "DIR/" + deep + "/c.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			b := mastertest.Start(t, mastertest.Options{
				Config: s.String(), Files: map[string]string{deep + "/x": ""}, Links: map[string]string{"link": deep},
				NoWait: true,
				Shell:  `exec "$BATON" "$@" --control "$(echo "` + tc.listen + `" | sed "s|DIR|$PWD|")"`,
			})
			ask := strings.Replace(tc.ask, "DIR", b.Dir, 1)
			cli := func(args ...string) mastertest.Result { return b.CLI(append(args, "--control", ask)...) }
			mastertest.Await(t, mastertest.Text("a status"), func() bool { return cli("status").Code == 0 })
			if r := cli("reload"); r.Code != 0 || !strings.Contains(r.Stdout, "generation 2") {
				t.Errorf("reload: %+v", r)
			}
			if r := b.CLI("run", "--config", "site.toml", "--control", ask); r.Code != 111 ||
				!strings.Contains(r.Stderr, "in use") {
				t.Errorf("a second baton: %+v", r)
			}
			if r := cli("stop"); r.Code != 0 {
				t.Errorf("stop: %+v", r)
			}
			if mastertest.Exists(b.Path(deep + "/c.sock")) {
				t.Error("left behind: the control socket")
			}
			wantExit(t, b, 0, mastertest.Timeout)
		})
	}
}
