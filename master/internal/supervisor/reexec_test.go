package supervisor

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// executable opens an executable file with this content, as a master puts it into the registry.
func executable(t *testing.T, content string) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), "prog")
	// Nobody may fork while it is open for writing.
	syscall.ForkLock.RLock()
	err := os.WriteFile(name, []byte(content), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// aboutToFollow is a supervisor at rest, after the COMMIT of a program with this content.
func aboutToFollow(t *testing.T, content string) (*supervisor, actor) {
	t.Helper()
	sv, a := restedSupervisor(t)
	sv.tty, sv.resizes, sv.args = nil, nil, []string{"/bin/prog", "run"}
	sv.follow.self = statFile("/proc/self/exe")
	sv.registry.put(EntryExe, entry{fd: executable(t, content), data: "v2"})
	sv.noteExe()
	sv.follow.since = time.Time{}
	return sv, a
}

func TestNoteExe(t *testing.T) {
	t.Parallel()
	const none, want, refused = "none", "want", "refused"
	sv, _ := aboutToFollow(t, "one")
	check := func(when, state string) {
		t.Helper()
		f := sv.follow
		got := none
		switch {
		case f.want != fileID{}:
			got = want
		case f.refused != fileID{}:
			got = refused
		}
		if got != state {
			t.Errorf("%s: %s, want %s", when, got, state)
		}
	}
	put := func(fd int) { sv.registry.put(EntryExe, entry{fd: fd}); sv.noteExe() }
	check("another binary", want)
	sv.refuse(sv.follow.want, errors.New("because"))
	check("refused", refused)
	if got := sv.warnings(); len(got) != 1 || !strings.Contains(got[0], "because") {
		t.Errorf("%q", got)
	}
	sv.noteExe()
	check("a COMMIT of the same", refused)
	put(executable(t, "one"))
	check("a copy", want)
	sv.follow.since = time.Unix(1, 0)
	sv.noteExe()
	if check("once more", want); !sv.follow.since.Equal(time.Unix(1, 0)) {
		t.Error("COMMITs of the same binary put it off")
	}
	own, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	put(own)
	check("the supervisor's own", none)
	if got := sv.warnings(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestFollowsOnlyAtRest(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(sv *supervisor){
		"an attempt":             func(sv *supervisor) { sv.attempt = &attempt{} },
		"an old master":          func(sv *supervisor) { sv.old = &session{} },
		"a request":              func(sv *supervisor) { sv.count++ },
		"a starting master":      func(sv *supervisor) { sv.starting = &session{pid: 77} },
		"no master":              func(sv *supervisor) { sv.current = nil },
		"a master not alone":     func(sv *supervisor) { sv.current.phase = phaseCommitted },
		"a dead master":          func(sv *supervisor) { sv.current.end = "killed" },
		"somebody else":          func(sv *supervisor) { sv.live++ },
		"stopping":               func(sv *supervisor) { sv.stopping = true },
		"last words to be read":  func(sv *supervisor) { sv.dead[7] = 0 },
		"no door":                func(sv *supervisor) { sv.doorBroken = true },
		"a master about to exit": func(sv *supervisor) { sv.leaving = []int{77} },
	} {
		sv, _ := aboutToFollow(t, "#!/bin/sh\n")
		given(sv)
		if sv.tryFollow(time.Now()); sv.follow.pid != 0 {
			t.Errorf("with %s a dry run was started", name)
		}
	}
	sv, _ := aboutToFollow(t, "#!/bin/sh\n")
	sv.follow.since = time.Now()
	if sv.tryFollow(time.Now()); sv.follow.pid != 0 || sv.dl.follow.IsZero() {
		t.Error("right after COMMIT a dry run was started, or none is planned")
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	const readsState = "grep -q '\"generation\":1' /proc/self/fd/3 && test \"$BATON_ROLE $BATON_FOLLOW $*\" = 'supervisor check 3 supervisor run' && "
	for name, tt := range map[string]struct{ script, want string }{
		"it understands":       {readsState + "echo \"" + stateRead + "\"", ""},
		"after a word of it":   {"echo hello; echo \"" + stateRead + "\"", ""},
		"it does not":          {"echo 'state: no'; exit 111", "exit status 111: state: no"},
		"it says so and fails": {"echo \"" + stateRead + "\"; exit 1", "exit status 1"},
		"it says nothing":      {"exit 0", "exit status 0: not a word"},
		"it panics":            {"echo 'panic: oh' >&2; exit 2", "exit status 2: panic: oh"},
		"it is killed":         {"kill -9 $$", "signal killed: not a word"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sv, _ := aboutToFollow(t, "#!/bin/sh\n"+tt.script+"\n")
			want := sv.follow.want
			runDry(t, sv)
			f := sv.follow
			if f.pid != 0 || !sv.dl.follow.IsZero() || (f.checked == want) != (tt.want == "") || (f.refused == want) != (tt.want != "") {
				t.Errorf("%+v", f)
			}
			if !strings.Contains(sv.problems[problemFollow], tt.want) || (sv.problems[problemFollow] == "") != (tt.want == "") {
				t.Errorf("%q, want %q", sv.problems[problemFollow], tt.want)
			}
		})
	}
}

// runDry lets a dry run come to its end.
func runDry(t *testing.T, sv *supervisor) {
	t.Helper()
	if sv.tryFollow(time.Now()); sv.follow.pid == 0 || sv.dl.follow.IsZero() {
		t.Fatalf("no dry run: %+v", sv.follow)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(sv.follow.pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	sv.onReaped(sv.follow.pid, ws)
}

func TestDryRunThatHangs(t *testing.T) {
	t.Parallel()
	sv, _ := aboutToFollow(t, "#!/bin/sh\nexec sleep 100\n")
	sv.tryFollow(time.Now())
	sv.onTimer(sv.dl.follow)
	var ws unix.WaitStatus
	_, _ = unix.Wait4(sv.follow.pid, &ws, 0, nil)
	sv.onReaped(sv.follow.pid, ws)
	if !strings.Contains(sv.problems[problemFollow], "not done within") {
		t.Errorf("%+v", sv.follow)
	}
}

func TestStopEndsTheDryRun(t *testing.T) {
	t.Parallel()
	sv, _ := aboutToFollow(t, "#!/bin/sh\nexec sleep 100\n")
	sv.tryFollow(time.Now())
	sv.stop(stop{})
	var ws unix.WaitStatus
	_, _ = unix.Wait4(sv.follow.pid, &ws, 0, nil)
	sv.onReaped(sv.follow.pid, ws)
	if !ws.Signaled() || sv.problems[problemFollow] != "" {
		t.Errorf("%v, %+v", ws, sv.follow)
	}
}

// When the execve itself fails, the supervisor goes on as before, and no message is lost.
func TestExecFails(t *testing.T) {
	sv, a := aboutToFollow(t, "no program")
	sv.sink, sv.packets = logsink.New(2), make(chan packetEvent)
	sv.signals, sv.children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	sv.door = doorOf(t, sv)
	sv.obeySignals()
	t.Cleanup(func() {
		signal.Stop(sv.signals)
		signal.Stop(sv.children)
		signal.Reset(syscall.SIGHUP, syscall.SIGTTIN, syscall.SIGTTOU)
	})
	go sv.read(a.s)
	go sv.readDoor()
	const messages = 100
	for i := range messages {
		if err := a.Post(message.Put{Name: "n", Data: string(rune('0' + i%10))}); err != nil {
			t.Fatal(err)
		}
	}
	want := sv.follow.want
	sv.follow.checked = want
	sv.tryFollow(time.Now())
	if sv.follow.refused != want || !strings.Contains(sv.problems[problemFollow], "exec format error") {
		t.Errorf("%+v", sv.follow)
	}
	_ = a.Post(message.ReloadRequest{Source: "after"})
	for sv.count == sv.served { // the last of them, in order
		sv.onPacket(<-sv.packets)
	}
	if sv.registry["n"].data != "9" {
		t.Errorf("%+v", sv.registry)
	}
	for _, fd := range roundTrip(t, sv).fds() {
		if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || f != unix.FD_CLOEXEC {
			t.Errorf("descriptor %d: flags %d, %v", fd, f, err)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTTIN} {
		_ = syscall.Kill(os.Getpid(), sig)
		for got := os.Signal(syscall.SIGCHLD); got == syscall.SIGCHLD; {
			if got = <-sv.signals; got != sig && got != syscall.SIGCHLD {
				t.Errorf("%v", got)
			}
		}
	}
	hello, _ := wire.Encode(message.Hello{})
	_ = unix.Sendmsg(sv.doorFD, hello, nil, nil, unix.MSG_NOSIGNAL)
	if ev := <-sv.packets; ev.from != nil || ev.packet == nil {
		t.Errorf("%+v", ev)
	}
}

// doorOf gives the supervisor a door whose other end is open.
func doorOf(t *testing.T, sv *supervisor) *seqpacket.Conn {
	t.Helper()
	a, b, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := seqpacket.New(a)
	if err != nil {
		t.Fatal(err)
	}
	sv.doorFD = b
	t.Cleanup(func() { _ = c.Close(); _ = unix.Close(b) })
	return c
}
