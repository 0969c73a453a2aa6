package systemd

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is a Manager whose messages nobody sends, with sockets to keep, and what it runs later.
func manager(fds int, sockets ...Socket) (m *Manager, later chan func()) {
	later = make(chan func())
	log := slog.New(slog.DiscardHandler)
	m = &Manager{opts: Options{
		Log: log, Later: func(f func()) { later <- f }, Sockets: func() []Socket { return sockets },
	}}
	m.log, m.notes = log, make(chan note, maxNotes)
	m.fds.open(fds)
	return m, later
}

// heard returns what was to be sent.
func (m *Manager) heard(each func(note)) (all []string) {
	for len(m.notes) > 0 {
		n := <-m.notes
		each(n)
		if n.fd >= 0 {
			_ = unix.Close(n.fd)
		}
		if !n.barrier {
			all = append(all, n.text)
		}
	}
	return all
}

func ignore(note) {}

func listeners(t *testing.T, names ...string) (all []Socket) {
	t.Helper()
	for _, name := range names {
		fd := listener(t)
		t.Cleanup(func() { _ = unix.Close(fd) })
		all = append(all, Socket{Entry: name, FD: fd})
	}
	return all
}

// What does not fit is not given, and nobody believes that it was.
func TestStoreThatIsTooSmall(t *testing.T) {
	t.Parallel()
	m, later := manager(3, listeners(t, "listen/a", "listen/b", "listen/c")...)
	m.Sync()
	want := []string{"FDNAME=baton/list", "FDNAME=baton/a", "FDNAME=baton/b"}
	got := m.heard(ignore)
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("%q, want %q", got[i], w)
		}
	}
	(<-later)() // systemd has closed its end of the barrier
	for name, kept := range map[string]bool{"listen/a": true, "listen/b": true, "listen/c": false} {
		if m.IsKept(name) != kept {
			t.Errorf("%s: kept %v", name, !kept)
		}
	}
}

// What systemd was not sent, or has not read, is given again, and until then nobody relies on it.
func TestStoreIsSure(t *testing.T) {
	t.Parallel()
	m, later := manager(30, listeners(t, "listen/a")...)
	notes := m.notes
	m.notes = make(chan note) // full
	m.Sync()
	if len(m.fds.kept) != 0 || m.Next().IsZero() {
		t.Errorf("systemd does not read: %+v, again %v", m.fds, m.Next())
	}
	m.notes = notes
	m.Tick(m.Next(), true)
	if m.IsKept("listen/a") || !m.Next().IsZero() {
		t.Error("nobody has said that it was read")
	}
	m.heard(func(n note) {
		if n.barrier { // as if the last one before it had not been sent
			_, _ = unix.Write(n.fd, []byte(barrierFailed))
		}
	})
	(<-later)()
	if len(m.fds.kept) != 0 || m.Next().IsZero() {
		t.Errorf("it was not sent: %+v, again %v", m.fds, m.Next())
	}
	m.Tick(m.Next(), true)
	if got := m.heard(ignore); len(got) != 2 || !strings.Contains(got[0], "baton/list") ||
		!strings.Contains(got[1], "baton/a") {
		t.Errorf("%q", got)
	}
	(<-later)()
	if !m.IsKept("listen/a") || !m.Next().IsZero() {
		t.Error("systemd has read it")
	}
	m.Stopping(time.Second)
	m.opts.Sockets = func() []Socket { return nil } // they are closed
	m.heard(ignore)
	if m.Sync(); len(m.heard(ignore)) != 0 || !m.IsKept("listen/a") {
		t.Error("a stop takes sockets back")
	}
}

func TestReadyAnswersReloading(t *testing.T) {
	t.Parallel()
	m, _ := manager(0)
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() { m.Reloading(3, "a") }, "RELOADING=1"},
		{func() { m.Reloading(3, "a") }, ""},
		{func() { m.Reloading(4, "a") }, "RELOADING=1"},
		{func() { m.Ready("b") }, "READY=1\nSTATUS=b\n"},
		{func() { m.Ready("c") }, "STATUS=c\n"},
		{func() { m.Reloading(0, "d") }, "RELOADING=1"},
		{func() { m.Reloading(0, "d") }, "RELOADING=1"},
	} {
		step.do()
		got := strings.Join(m.heard(ignore), "")
		if !strings.HasPrefix(got, step.want) || step.want == "" && got != "" {
			t.Errorf("%q, want %q", got, step.want)
		}
	}
}

func TestWatchdog(t *testing.T) {
	t.Parallel()
	m, _ := manager(0)
	m.opts.Watchdog, m.beatAt = time.Minute, time.Unix(100, 0)
	for _, healthy := range []bool{false, true} {
		at := m.Next()
		m.Tick(at.Add(-1), healthy)
		if got := m.heard(ignore); len(got) > 0 {
			t.Errorf("too early: %q", got)
		}
		m.Tick(at, healthy)
		if got := m.heard(ignore); len(got) == 1 != healthy || m.Next() != at.Add(30*time.Second) {
			t.Errorf("healthy %v: %q, next %v", healthy, got, m.Next())
		}
	}
}

// A reason may come from a file that anybody has written. No line of it may become an assignment.
func TestStatusIsOneAssignment(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{
		"a\nMAINPID=1", "a\r\nFDSTOREREMOVE=1\n", "\x00\x1b[31m", "\xff\xfe", strings.Repeat("ü", maxStatus),
	} {
		got := assignment("start failed: " + reason)
		if strings.ContainsAny(got, "\n\r\x00\x1b") || !strings.HasPrefix(got, "STATUS=start failed: ") ||
			len(got) > maxStatus+20 ||
			strings.ToValidUTF8(got, "") != got {
			t.Errorf("%q becomes %q", reason, got)
		}
	}
}

// listener is a listening socket, raw.
func listener(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// A barrier tells when what was said before it has been read, and whether all of it was sent.
func TestBarrier(t *testing.T) {
	address := "@baton-test-" + fmt.Sprint(os.Getpid(), time.Now().UnixNano())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	n := &notifier{log: slog.New(slog.DiscardHandler)}
	n.start(address)
	obeyed := make(chan bool, 1)
	ask := func() {
		t.Helper()
		if err := n.barrier(func(ok bool) { obeyed <- ok }); err != nil {
			t.Fatal(err)
		}
		n.Flush(20 * time.Second)
	}
	n.tell("READY=1")
	ask()
	if len(obeyed) > 0 {
		t.Error("nobody has read it")
	}
	buf, oob := make([]byte, 100), make([]byte, 100)
	for _, want := range []string{"READY=1\n", "BARRIER=1\n"} {
		got, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil || string(buf[:got]) != want {
			t.Errorf("%q, %v, want %q", buf[:got], err, want)
		}
		parts, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for _, part := range parts {
			fds, _ := unix.ParseUnixRights(&part)
			_ = unix.Close(fds[0])
		}
	}
	if !<-obeyed {
		t.Error("it was read")
	}
	_ = conn.Close()
	n.tell("STATUS=x")
	if ask(); <-obeyed {
		t.Error("nobody is there to read it")
	}
}

func TestFDName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	f := fdStore{kept: map[string]kept{}}
	seen := map[string]bool{}
	for _, entry := range []string{
		"listen/tcp/127.0.0.1:80", "listen/tcp/127.0.0.1-80", "listen/tcp/[::1]:80/3", "listen/unix//run/ü x",
		"listen/list", "listen/" + long, "listen/" + long + "y",
	} {
		name := f.fdName(entry)
		f.kept[entry] = kept{fdname: name}
		if seen[name] || name == listName || len(name) > 255 || !strings.HasPrefix(name, "baton/") ||
			strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 127 || r == ':' }) {
			t.Errorf("%s is called %q", entry, name)
		}
		seen[name] = true
	}
}

// A list that an older supervisor could not finish writing, or that nobody knows, does no harm.
func TestReadList(t *testing.T) {
	t.Parallel()
	const list = `{"version":1,"sockets":[{"fdname":"f","entry":"listen/a","data":"{}"}]}`
	for text, want := range map[string]int{
		list:                           1,
		list + `ntry":"listen/b"}]}`:   1,
		list[:40]:                      0,
		"":                             0,
		`{"version":2,"sockets":[{}]}`: 0,
	} {
		fd, err := unix.MemfdCreate("list", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = unix.Write(fd, []byte(text))
		if got := readList(fd); len(got) != want {
			t.Errorf("%q: %v", text, got)
		}
		_ = unix.Close(fd)
	}
	if got := readList(-1); got != nil {
		t.Errorf("%v", got)
	}
}

// A full systemd takes no more, and holds nobody up.
func TestNotifierNeverWaits(t *testing.T) {
	t.Parallel()
	n := &notifier{notes: make(chan note, 2), log: slog.New(slog.DiscardHandler)}
	for i := range 5 {
		n.tell(fmt.Sprint("STATUS=", i))
	}
	if err := n.give(listener(t), "FDSTORE=1"); err == nil {
		t.Error("it was given")
	}
	n.Flush(time.Minute)
	if n.Idle() || n.pending.Load() != 2 {
		t.Errorf("%d wait", n.pending.Load())
	}
	var none notifier
	none.tell("READY=1")
	none.Flush(time.Minute)
	if !none.Idle() {
		t.Error("nobody to tell, and something waits")
	}
}

func TestNotifierSendsInOrder(t *testing.T) {
	address := "@baton-test-" + fmt.Sprint(os.Getpid(), time.Now().UnixNano())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n := &notifier{log: slog.New(slog.DiscardHandler)}
	n.start(address)
	n.tell("READY=1", "STATUS=x")
	if err := n.give(0, "FDSTORE=1"); err != nil {
		t.Fatal(err)
	}
	n.tell("STOPPING=1")
	n.Flush(20 * time.Second)
	if !n.Idle() {
		t.Error("flushed, and something waits")
	}
	for i, want := range []string{"READY=1\nSTATUS=x\n", "FDSTORE=1\n", "STOPPING=1\n"} {
		buf, oob := make([]byte, 100), make([]byte, 100)
		got, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil || string(buf[:got]) != want || (oobn > 0) != (i == 1) {
			t.Errorf("%q, %d bytes of control, %v; want %q", buf[:got], oobn, err, want)
		}
	}
}
