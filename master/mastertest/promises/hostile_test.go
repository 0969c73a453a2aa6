package promises_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestSlowClients: clients that send as slowly as they may keep nobody from being served: half headers until a worker's
// file limit is reached, and bodies that do not go on.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	s.workers = 1
	s.routes = "[http]\nreceive_timeout = \"500ms\"\n"
	b := crowded(t, s, 128)
	kept := keep(t, s.listen[0])
	ask := func(c *keptClient, what string) {
		t.Helper()
		if err := c.ask("/text"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	ask(kept, "at rest")
	send := func(n int, half string) (conns []net.Conn) {
		for range n {
			c := keep(t, s.listen[0])
			if _, err := io.WriteString(c, half); err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c.Conn)
		}
		return conns
	}
	send(150, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	if err := kept.ask("/text"); err != nil { // it was closed for them, while it was idle
		kept = keep(t, s.listen[0])
		ask(kept, "a client that comes back")
	}
	ask(keep(t, s.listen[0]), "a new connection beside half headers")

	slow := send(80, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
	for range 20 {
		ask(keep(t, s.listen[0]), "a new connection beside half bodies")
	}
	for _, c := range slow {
		if _, err := io.WriteString(c, "67890"); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Errorf("a body that was slow: %v", err)
		}
		c.Close()
	}
	if st := b.Status(); st.Crashes != 0 {
		t.Errorf("%+v", st)
	}
}

// TestStaticUnderAttack: while files, directories and links are exchanged under the same names, what lies outside of a
// directory stays outside.
func TestStaticUnderAttack(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	s.routes = "[[route]]\npath = \"/files\"\nstatic = \"public\"\n"
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(),
		Files: map[string]string{
			"public/file": "public", "public/real/file": "public", "outside/file": "secret",
			"secret": "secret",
		},
		Links: map[string]string{
			"public/evil": "../secret", "public/evildir": "../outside",
			"public/absolute": "/etc/passwd",
		},
	})
	for _, path := range []string{
		"/../secret", "/%2e%2e/secret", "/..%2fsecret", "/%2e%2e%2fsecret", "/%252e%252e%252fsecret", "/..%5csecret",
		"/..\\secret",
		"/real/../../secret", "/evil", "/evildir/file", "/absolute", "//etc/passwd", "/%2fetc/passwd", "/file%00", "/.",
		"/..", "/.hidden",
	} {
		answer := exchange(t, s.listen[0], "GET /files"+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false)
		if strings.Contains(answer, "secret") || strings.Contains(answer, "root:") ||
			strings.HasPrefix(answer, "HTTP/1.1 5") {
			t.Errorf("%s: %q", path, answer)
		}
	}
	dir := b.Path("public")
	stop, stopped := make(chan struct{}), make(chan error)
	go func() { stopped <- exchangeNames(dir, stop) }()
	public := 0
	for range 60 {
		for _, path := range []string{"/swapped", "/swappeddir/file"} {
			switch answer, err := b.Get(s.listen[0], "/files"+path); {
			case answer == "public":
				public++
			case strings.Contains(answer+fmt.Sprint(err), "secret"):
				t.Fatalf("%s: %q", path, answer)
			}
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if public == 0 {
		t.Error("the files themselves were never seen")
	}
}

// exchangeNames makes "swapped" a file and a link out of dir in turns, and "swappeddir" a directory and such a link.
func exchangeNames(dir string, stop <-chan struct{}) error {
	for turn := 0; !isClosed(stop); turn++ {
		for name, targets := range map[string][2]string{
			"swapped":    {"file", "../secret"},
			"swappeddir": {"real", "../outside"},
		} {
			temporary := filepath.Join(dir, "new-"+name)
			if err := os.Symlink(targets[turn%2], temporary); err != nil {
				return err
			}
			if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// limitFiles leaves a process so many descriptors that it may still open, and returns what takes that back.
func limitFiles(tb testing.TB, pid, spare int) (back func()) {
	tb.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		tb.Fatal(err)
	}
	taken := map[string]bool{}
	for _, e := range entries {
		taken[e.Name()] = true
	}
	limit := 0
	for ; taken[strconv.Itoa(limit)] || spare > 0; limit++ {
		if !taken[strconv.Itoa(limit)] {
			spare--
		}
	}
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		tb.Fatal(err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: old.Max}, nil); err != nil {
		tb.Fatal(err)
	}
	return func() { _ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil) } // it may be gone
}

// TestReloadOutOfFiles: a reload for which the master or the supervisor has too few descriptors fails with its reason
// and changes nothing, or it succeeds; and when there are enough again everything works as before.
func TestReloadOutOfFiles(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t).with(`ready_timeout = "5s"`)
	b := start(t, s)
	b.Reload()
	clients := putLoad(t, s.listen[0], load.Mix(2, 4, 4))
	failed := 0
	for who, spares := range map[string][]int{"master": {0, 5}, "supervisor": {0, 1, 3, 6}} {
		for _, spare := range spares {
			before := takeSnapshot(t, b)
			log := len(b.Log())
			pid := b.PID()
			if who == "master" {
				pid = before.master
			}
			back := limitFiles(t, pid, spare)
			b.Signal(unix.SIGHUP)
			b.AwaitLog("the reload's end", log, func(text string) bool {
				return strings.Contains(text, "reload failed") || strings.Contains(text, "generation serves") ||
					strings.Contains(text, "the master died")
			})
			back()
			st := b.AwaitSettled()
			t.Logf("%s, %d spare: %+v\n%s", who, spare, st.LastReload, b.Log()[log:])
			if st.Generation == before.generation {
				failed++
				if st.LastReload.OK || st.LastReload.Error == "" {
					t.Errorf("%s, %d spare: %+v", who, spare, st.LastReload)
				}
			}
			b.Reload()
		}
	}
	if failed == 0 {
		t.Error("no reload failed")
	}
	wantNoLoss(t, clients)
}
