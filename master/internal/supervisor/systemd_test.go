package supervisor

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
)

// heardBy gives sv a notifier that nobody empties, and returns what was said.
func heardBy(sv *supervisor) (heard func() []string) {
	n := &notifier{notes: make(chan note, maxNotes), log: slog.New(slog.DiscardHandler)}
	sv.systemd.notifier = n
	return func() []string {
		var all []string
		for len(n.notes) > 0 {
			m := <-n.notes
			if m.fd >= 0 {
				_ = unix.Close(m.fd)
			}
			if !m.barrier {
				all = append(all, m.text)
			}
		}
		return all
	}
}

func states(heard []string) string {
	var all []string
	for _, text := range heard {
		for line := range strings.Lines(text) {
			if word, ok := strings.CutSuffix(line, "=1\n"); ok {
				all = append(all, word)
			}
		}
	}
	return strings.Join(all, " ")
}

// A reason may come from a file that anybody has written. No line of it may become an assignment.
func TestStatusIsOneAssignment(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{
		"a\nMAINPID=1", "a\r\nFDSTOREREMOVE=1\n", "\x00\x1b[31m", "\xff\xfe", strings.Repeat("ü", maxStatus),
	} {
		got := statusText("start failed: %s", reason)
		if strings.ContainsAny(got, "\n\r\x00\x1b") || !strings.HasPrefix(got, "STATUS=start failed: ") || len(got) > maxStatus+20 ||
			strings.ToValidUTF8(got, "") != got {
			t.Errorf("%q becomes %q", reason, got)
		}
	}
}

// READY=1 is not said at COMMIT, when new sockets do not listen yet.
func TestReadyWaitsForServing(t *testing.T) {
	t.Parallel()
	sv := newSupervisor(t)
	sv.systemd.owed = true
	heard := heardBy(sv)
	a := sv.newActor(t, phaseFirst, 1<<30)
	sv.starting = a.s
	a.says(message.Commit{})
	if got := heard(); len(got) > 0 {
		t.Errorf("at COMMIT: %q", got)
	}
	a.says(message.Serving{Workers: 3})
	if got := heard(); states(got) != "READY" || !strings.Contains(got[0], "workers: 3") {
		t.Errorf("%q", got)
	}
	a.says(message.Serving{Workers: 4}) // a resize
	if got := heard(); states(got) != "" || !strings.Contains(got[0], "workers: 4") {
		t.Errorf("%q", got)
	}
}

// A successor that dies between COMMIT and its word leaves an answer owed, which the restarted master's word pays.
func TestReadyAfterTheSuccessorsDeath(t *testing.T) {
	t.Parallel()
	sv, _, successor := reloading(t)
	sv.systemd.owed = true
	heard := heardBy(sv)
	successor.says(message.Commit{Seen: 1})
	successor.dies()
	if got := states(heard()); got != "" || !sv.systemd.owed {
		t.Errorf("%q is said of a reload of which nobody knows whether it serves", got)
	}
	sv.old = nil
	again := sv.newActor(t, phaseRestart, 1<<30)
	sv.starting = again.s
	again.says(message.Commit{})
	again.says(message.Serving{})
	if got := states(heard()); got != "READY" {
		t.Errorf("%q", got)
	}
}

// A stop is not answered by READY=1, and takes nothing out of systemd's store.
func TestNothingButStoppingAtAStop(t *testing.T) {
	t.Parallel()
	sv, master, _ := reloading(t)
	sv.systemd.owed = true
	heard := heardBy(sv)
	sv.systemd.store = fdstore{max: 10, kept: map[string]kept{"listen/a": {fdname: "baton/a", sure: true}}}
	sv.stop(stop{})
	sv.failAttempt()
	master.says(message.Serving{})
	if got := states(heard()); got != "STOPPING" {
		t.Errorf("%q", got)
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		given func(sv *supervisor)
		want  bool
	}{
		"at the start":               {func(*supervisor) {}, true},
		"with a master":              {func(sv *supervisor) { sv.generation, sv.current = 1, &session{} }, true},
		"workers without a master":   {func(sv *supervisor) { sv.generation = 1; sv.registry.put(WorkerEntry(7), entry{fd: -1}) }, true},
		"nobody":                     {func(sv *supervisor) { sv.generation = 1 }, false},
		"nobody, for it is stopping": {func(sv *supervisor) { sv.generation, sv.stopping = 1, true }, true},
	} {
		sv := newSupervisor(t)
		tt.given(sv)
		heard := heardBy(sv)
		sv.systemd.watchdog = time.Minute
		sv.beat(time.Unix(100, 0))
		if got := states(heard()); (got == "WATCHDOG") != tt.want || sv.dl.watchdog != time.Unix(130, 0) {
			t.Errorf("%s: %q, next at %v", name, got, sv.dl.watchdog)
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

// What does not fit is not given, and nobody believes that it was: a Unix socket's path goes with it at the end.
func TestStoreThatIsTooSmall(t *testing.T) {
	t.Parallel()
	sv, a := serving(t)
	heard := heardBy(sv)
	sv.systemd.store = fdstore{max: 3, kept: map[string]kept{}}
	paths := map[string]string{}
	for _, name := range []string{"listen/a", "listen/b", "listen/c"} {
		paths[name] = path(t, "sock")
		sv.registry.put(name, entry{fd: listener(t), unlink: made(t, paths[name])})
	}
	a.says(message.Serving{})
	want := []string{"FDNAME=baton/list", "FDNAME=baton/a", "FDNAME=baton/b", "generation"}
	got := heard()
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i, w := range want {
		if !strings.Contains(got[i], w) {
			t.Errorf("%q, want %q", got[i], w)
		}
	}
	(<-sv.calls)() // systemd has closed its end of the barrier
	sv.dropListeners()
	for name, there := range map[string]bool{"listen/a": true, "listen/b": true, "listen/c": false} {
		wantPath(t, paths[name], there, name)
	}
}

// What systemd was not sent, or has not read, is given again, and until then nobody relies on it: the path of a Unix
// socket goes with it.
func TestStoreIsSure(t *testing.T) {
	t.Parallel()
	sv, a := serving(t)
	sv.systemd.store = fdstore{max: 30, kept: map[string]kept{}}
	sock := path(t, "sock")
	sv.registry.put("listen/a", entry{fd: listener(t), unlink: made(t, sock)})
	sure := func() bool { return sv.systemd.store.kept["listen/a"].sure }
	full := &notifier{notes: make(chan note), log: slog.New(slog.DiscardHandler)}
	sv.systemd.notifier = full
	a.says(message.Serving{})
	if len(sv.systemd.store.kept) != 0 || sv.dl.store.IsZero() {
		t.Errorf("systemd does not read: %+v, again %v", sv.systemd.store, sv.dl.store)
	}
	heard := heardBy(sv)
	sv.onTimer(sv.dl.store)
	if sure() || !sv.dl.store.IsZero() {
		t.Error("nobody has said that it was read")
	}
	for _, m := range drain(sv) { // as if the last one but the barrier had not been sent
		if m.barrier {
			_, _ = unix.Write(m.fd, []byte(barrierFailed))
		}
		_ = unix.Close(m.fd)
	}
	(<-sv.calls)()
	if len(sv.systemd.store.kept) != 0 || sv.dl.store.IsZero() {
		t.Errorf("it was not sent: %+v, again %v", sv.systemd.store, sv.dl.store)
	}
	sv.onTimer(sv.dl.store)
	if got := heard(); len(got) != 2 || !strings.Contains(got[0], "baton/list") || !strings.Contains(got[1], "baton/a") {
		t.Errorf("%q", got)
	}
	(<-sv.calls)()
	if !sure() || !sv.dl.store.IsZero() {
		t.Error("systemd has read it")
	}
	sv.dropListeners()
	wantPath(t, sock, true, "systemd has the socket")
}

// drain takes what was to be sent.
func drain(sv *supervisor) (all []note) {
	for len(sv.systemd.notes) > 0 {
		all = append(all, <-sv.systemd.notes)
	}
	return all
}

// A path of which nobody knows whether systemd has the socket goes.
func TestStoreThatIsNotSure(t *testing.T) {
	t.Parallel()
	sv, a := serving(t)
	sv.systemd.store = fdstore{max: 30, kept: map[string]kept{}}
	_ = heardBy(sv)
	sock := path(t, "sock")
	sv.registry.put("listen/a", entry{fd: listener(t), unlink: made(t, sock)})
	a.says(message.Serving{})
	sv.dropListeners()
	wantPath(t, sock, false, "nobody has said that systemd has the socket")
}

// A barrier tells when what was said before it has been read, and whether all of it was sent.
func TestBarrier(t *testing.T) {
	address := "@baton-test-" + fmt.Sprint(os.Getpid(), time.Now().UnixNano())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(notifyEnv, address)
	n := newNotifier(slog.New(slog.DiscardHandler))
	obeyed := make(chan bool, 1)
	ask := func() {
		t.Helper()
		if err := n.barrier(func(ok bool) { obeyed <- ok }); err != nil {
			t.Fatal(err)
		}
		n.flush(20 * time.Second)
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
	f := fdstore{kept: map[string]kept{}}
	seen := map[string]bool{}
	for _, entry := range []string{
		"listen/tcp/127.0.0.1:80", "listen/tcp/127.0.0.1-80", "listen/tcp/[::1]:80/3", "listen/unix//run/ü x", "listen/list", "listen/" + long, "listen/" + long + "y",
	} {
		name := f.fdName(entry)
		f.kept[entry] = kept{fdname: name}
		if seen[name] || name == storedList || len(name) > 255 || !strings.HasPrefix(name, "baton/") ||
			strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 127 || r == ':' }) {
			t.Errorf("%s is called %q", entry, name)
		}
		seen[name] = true
	}
}

// A list that an older supervisor could not finish writing, or that nobody knows, does no harm.
func TestReadStored(t *testing.T) {
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
		if got := readStored(fd); len(got) != want {
			t.Errorf("%q: %v", text, got)
		}
		_ = unix.Close(fd)
	}
	if got := readStored(-1); got != nil {
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
	if err := n.give(listener(t), "FDSTORE=1\n"); err == nil {
		t.Error("it was given")
	}
	n.flush(time.Minute)
	if n.idle() || n.pending.Load() != 2 {
		t.Errorf("%d wait", n.pending.Load())
	}
	var none *notifier
	none.tell("READY=1")
	none.flush(time.Minute)
	if !none.idle() {
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
	t.Setenv(notifyEnv, address)
	n := newNotifier(slog.New(slog.DiscardHandler))
	n.tell("READY=1", "STATUS=x")
	if err := n.give(0, "FDSTORE=1\n"); err != nil {
		t.Fatal(err)
	}
	n.tell("STOPPING=1")
	n.flush(20 * time.Second)
	if !n.idle() {
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
