package promises_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// unitSocket is a listening socket as systemd makes it for a socket unit, on a free port or a path; it lives as long as
// the test.
func unitSocket(tb testing.TB, network, path, name string) (f mastertest.PassedFile, address string) {
	tb.Helper()
	var ln interface {
		File() (*os.File, error)
		io.Closer
	}
	switch network {
	case "udp":
		pc, err := net.ListenPacket(network, "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		address, ln = pc.LocalAddr().String(), pc.(*net.UDPConn)
	case "unix":
		u, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			tb.Fatal(err)
		}
		u.SetUnlinkOnClose(false)
		address, ln = path, u
	default:
		l, err := net.Listen(network, "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		address, ln = l.Addr().String(), l.(*net.TCPListener)
	}
	defer ln.Close()
	file, err := ln.File()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { file.Close() })
	return mastertest.PassedFile{Name: name, File: file}, address
}

// shortDir is a directory whose path is short enough for a socket's.
func shortDir(tb testing.TB) string {
	tb.Helper()
	//nolint:usetesting // with the name of the test in it, the path would be too long
	dir, err := os.MkdirTemp("", "unit")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// client is a connection that has sent a request and waits for its answer.
type client struct {
	net.Conn
	address string
}

// queue sends a request for /text, which nobody may be there to accept yet.
func queue(tb testing.TB, network, address string) client {
	tb.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	if _, err := fmt.Fprintf(c, "GET /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		tb.Fatal(err)
	}
	return client{c, address}
}

// wantServed waits for the answer.
func (c client) wantServed(tb testing.TB, want string) {
	tb.Helper()
	if err := c.SetDeadline(time.Now().Add(mastertest.Timeout)); err != nil {
		tb.Fatal(err)
	}
	text, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(text), "\r\n\r\n"+want) {
		tb.Errorf("%s: a request that waited in the queue: %q, %v", c.address, text, err)
	}
}

// TestSocketActivation: the sockets of systemd's socket unit are served instead of own ones, by name or by address;
// what has queued there before the start, while the master was dead, and between two lives, is served; and they are
// left as they were.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "web.sock")
	unit, _ := unitSocket(t, "unix", path, "baton.socket")
	webUnit, tcp := unitSocket(t, "tcp", "", "web")
	udpUnit, udp := unitSocket(t, "udp", "", "baton.socket")
	spare, _ := unitSocket(t, "tcp", "", "spare")
	files := []mastertest.PassedFile{unit, webUnit, udpUnit, spare}
	s := unwatchedSite(t)
	config := func(listen string) string {
		s.listen = nil
		return strings.Replace(s.String(), "[[route]]", listen+"[[route]]", 1)
	}
	web := fmt.Sprintf("[[listen]]\nname = \"web\"\naddress = %q\n", tcp)
	rest := fmt.Sprintf("[[listen]]\naddress = \"unix:%s\"\n[[listen]]\naddress = %q\ntransport = \"udp\"\n"+
		"process = \"echo\"\n", path, udp)
	start := func() *mastertest.Baton {
		return mastertest.Start(t, mastertest.Pass(t, mastertest.Options{Config: config(web + rest), NoWait: true},
			files...))
	}

	early := []client{queue(t, "tcp", tcp), queue(t, "unix", path)}
	b := start()
	for _, c := range early {
		c.wantServed(t, "one")
	}
	st := b.AwaitSettled()
	if w := strings.Join(st.Warnings, "\n"); !strings.Contains(w, `"spare"`) || strings.Contains(w, `"baton.socket"`) {
		t.Errorf("warnings %q", w)
	}
	wantEcho(t, udp)
	inodes := socketInode(t, webUnit.File)
	if fds, err := mastertest.OpenFDs(st.PIDs("")[0]); err != nil || !strings.Contains(strings.Join(fds, " "), inodes) {
		t.Errorf("the worker has not the socket %s: %v, %v", inodes, fds, err)
	}
	wantScrubbed(t, b)

	b.Reload()
	b.Kill(b.Status().MasterPID)
	again := []client{queue(t, "tcp", tcp), queue(t, "unix", path)}
	for _, c := range again {
		c.wantServed(t, "one")
	}
	b.Reload()
	wantEcho(t, udp)

	// An address that leaves the configuration waits in the socket, and comes back with it.
	b.WriteConfig(config(rest))
	b.Reload("--wait")
	left := queue(t, "tcp", tcp)
	b.WriteConfig(config(web + rest))
	b.Reload()
	left.wantServed(t, "one")
	b.Stop()

	if !mastertest.Exists(path) {
		t.Error("the path of a socket that was passed has been removed")
	}
	between := []client{queue(t, "tcp", tcp), queue(t, "unix", path)}
	b = start()
	for _, c := range between {
		c.wantServed(t, "one")
	}
	wantEcho(t, udp)
	st = b.AwaitSettled()
	b.Kill(st.SupervisorPID) // its master would remove the path of a socket of its own
	b.WantGone()
	if !mastertest.Exists(path) {
		t.Error("the path of a socket that was passed has been removed")
	}
}

func socketInode(tb testing.TB, f *os.File) string {
	tb.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("socket:[%d]", st.Ino)
}

// wantEcho asks a UDP echo.
func wantEcho(tb testing.TB, address string) {
	tb.Helper()
	c, err := net.Dial("udp", address)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 100)
	var n int
	_, err = c.Write([]byte("hello"))
	if err == nil {
		_ = c.SetReadDeadline(time.Now().Add(mastertest.Timeout))
		n, err = c.Read(buf)
	}
	if err != nil || string(buf[:n]) != "hello" {
		tb.Errorf("udp echo: %q, %v", buf[:n], err)
	}
}

// TestSocketActivationMistakes: where the unit and the configuration do not fit, the start says so; and so does a
// reload.
func TestSocketActivationMistakes(t *testing.T) {
	accepted := func(t *testing.T, _ *site) mastertest.PassedFile {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		f, err := c.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return mastertest.PassedFile{Name: "connection", File: f}
	}
	for name, tc := range map[string]struct {
		file func(t *testing.T, s *site) mastertest.PassedFile
		want []string
	}{
		"Accept=yes": {accepted, []string{"Accept=no", `\"connection\"`}},
		"another address": {func(t *testing.T, _ *site) mastertest.PassedFile {
			f, _ := unitSocket(t, "tcp", "", "web")
			return f
		}, []string{"listen web", "TCP socket 127.0.0.1:"}},
		"another transport": {func(t *testing.T, s *site) (f mastertest.PassedFile) {
			f, s.listen[0] = unitSocket(t, "udp", "", "web")
			return f
		}, []string{"listen web", "UDP socket 127.0.0.1:", "tcp"}},
		"reuse_port": {func(t *testing.T, s *site) (f mastertest.PassedFile) {
			f, s.listen[0] = unitSocket(t, "tcp", "", "other")
			s.socket += "reuse_port = true\n"
			return f
		}, []string{"listen web", "reuse_port", `"other"`}},
		"an address within": {func(t *testing.T, s *site) (f mastertest.PassedFile) {
			f, s.listen[0] = unitSocket(t, "tcp", "", "baton.socket")
			s.listen[0] = strings.Replace(s.listen[0], "127.0.0.1", "0.0.0.0", 1)
			return f
		}, []string{"address already in use", `systemd has passed "baton.socket", a TCP socket 127.0.0.1:`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			s.socket = "name = \"web\"\n"
			f := tc.file(t, &s)
			b := mastertest.Start(t, mastertest.Pass(t, mastertest.Options{Config: s.String(), NoWait: true}, f))
			want := 100
			if name == "an address within" {
				want = 111 // a port that is taken
			}
			if code := b.Wait(); code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			b.WantGone()
			<-b.Silent()
			for _, want := range tc.want {
				if !strings.Contains(b.Log(), want) {
					t.Errorf("%q is not in %q", want, b.Log())
				}
			}
		})
	}
	t.Run("in a reload", func(t *testing.T) {
		t.Parallel()
		s := unwatchedSite(t)
		s.socket = `name = "web"`
		f, address := unitSocket(t, "tcp", "", "web")
		s.listen[0] = address
		b := mastertest.Start(t, mastertest.Pass(t, mastertest.Options{Config: s.String()}, f))
		s.socket += "\nreuse_port = true"
		b.WriteConfig(s.String())
		if r := b.CLI("reload"); r.Code != 1 || !strings.Contains(r.Stderr, "reuse_port") {
			t.Errorf("%+v", r)
		}
		wantText(t, b, s.listen[0], "one")
	})
}

// TestListenPIDOfAnother: what is meant for another process is left alone.
func TestListenPIDOfAnother(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	f, _ := unitSocket(t, "tcp", "", "web")
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Pass: []*os.File{f.File},
		Env: []string{"LISTEN_PID=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=web"},
	})
	if st := b.Status(); len(st.Warnings) > 0 {
		t.Errorf("%+v", st)
	}
	wantScrubbed(t, b)
}
