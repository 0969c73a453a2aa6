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
	"baton/master/internal/supervisor/reexec"
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
	sv.tty, sv.held.resizes, sv.args = nil, nil, []string{"/bin/prog", "run"}
	sv.reexec.candidate.Self = reexec.Stat("/proc/self/exe")
	sv.registry.put(EntryExe, entry{FD: executable(t, content), Data: "v2"})
	sv.reexec.propose()
	sv.reexec.candidate.Since = time.Time{}
	return sv, a
}

func TestNoteExe(t *testing.T) {
	t.Parallel()
	const none, want, refused = "none", "want", "refused"
	sv, _ := aboutToFollow(t, "one")
	check := func(when, state string) {
		t.Helper()
		f := &sv.reexec.candidate
		got := none
		switch {
		case f.Wanted != reexec.FileID{}:
			got = want
		case f.Refused != reexec.FileID{}:
			got = refused
		}
		if got != state {
			t.Errorf("%s: %s, want %s", when, got, state)
		}
	}
	put := func(fd int) { sv.registry.put(EntryExe, entry{FD: fd}); sv.reexec.propose() }
	check("another binary", want)
	sv.reexec.refuse(sv.reexec.candidate.Wanted, errors.New("because"))
	check("refused", refused)
	if got := sv.front.warnings(); len(got) != 1 || !strings.Contains(got[0], "because") {
		t.Errorf("%q", got)
	}
	sv.reexec.propose()
	check("a COMMIT of the same", refused)
	put(executable(t, "one"))
	check("a copy", want)
	sv.reexec.candidate.Since = time.Unix(1, 0)
	sv.reexec.propose()
	if check("once more", want); !sv.reexec.candidate.Since.Equal(time.Unix(1, 0)) {
		t.Error("COMMITs of the same binary put it off")
	}
	own, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	put(own)
	check("the supervisor's own", none)
	if got := sv.front.warnings(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestFollowsOnlyAtRest(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(sv *supervisor){
		"an attempt":             func(sv *supervisor) { sv.attempt = &attempt{} },
		"an old master":          func(sv *supervisor) { sv.old = &masterConn{} },
		"a request":              func(sv *supervisor) { sv.requests++ },
		"a starting master":      func(sv *supervisor) { sv.starting = &masterConn{pid: 77} },
		"no master":              func(sv *supervisor) { sv.current = nil },
		"a master not alone":     func(sv *supervisor) { sv.current.phase = phaseCommitted },
		"a dead master":          func(sv *supervisor) { sv.current.exitStatus = "killed" },
		"somebody else":          func(sv *supervisor) { sv.live++ },
		"stopping":               func(sv *supervisor) { sv.stopping.phase = stopDraining },
		"last words to be read":  func(sv *supervisor) { sv.dead[7] = 0 },
		"no registrations":       func(sv *supervisor) { sv.registration.state = registrationBroken },
		"a master about to exit": func(sv *supervisor) { sv.leaving = []int{77} },
	} {
		sv, _ := aboutToFollow(t, "#!/bin/sh\n")
		given(sv)
		if sv.reexec.try(time.Now()); sv.reexec.candidate.PID() != 0 {
			t.Errorf("with %s a dry run was started", name)
		}
	}
	sv, _ := aboutToFollow(t, "#!/bin/sh\n")
	sv.reexec.candidate.Since = time.Now()
	if sv.reexec.try(time.Now()); sv.reexec.candidate.PID() != 0 || sv.reexec.at.IsZero() {
		t.Error("right after COMMIT a dry run was started, or none is planned")
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	const readsState = "grep -q '\"generation\":1' /proc/self/fd/3 && test \"$BATON_ROLE $BATON_REEXEC $*\" = " +
		"'supervisor check 3 supervisor run' && "
	for name, tt := range map[string]struct{ script, want string }{
		"it understands":       {readsState + "echo \"" + reexec.Understood + "\"", ""},
		"after a word of it":   {"echo hello; echo \"" + reexec.Understood + "\"", ""},
		"it does not":          {"echo 'state: no'; exit 111", "exit status 111: state: no"},
		"it says so and fails": {"echo \"" + reexec.Understood + "\"; exit 1", "exit status 1"},
		"it says nothing":      {"exit 0", "exit status 0: not a word"},
		"it panics":            {"echo 'panic: oh' >&2; exit 2", "exit status 2: panic: oh"},
		"it is killed":         {"kill -9 $$", "signal killed: not a word"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sv, _ := aboutToFollow(t, "#!/bin/sh\n"+tt.script+"\n")
			want := sv.reexec.candidate.Wanted
			runDry(t, sv)
			f := &sv.reexec.candidate
			if f.PID() != 0 || !sv.reexec.at.IsZero() || (f.Checked == want) != (tt.want == "") ||
				(f.Refused == want) != (tt.want != "") {
				t.Errorf("%+v", f)
			}
			if !strings.Contains(sv.front.problems.reexec, tt.want) ||
				(sv.front.problems.reexec == "") != (tt.want == "") {
				t.Errorf("%q, want %q", sv.front.problems.reexec, tt.want)
			}
		})
	}
}

// runDry lets a dry run come to its end.
func runDry(t *testing.T, sv *supervisor) {
	t.Helper()
	if sv.reexec.try(time.Now()); sv.reexec.candidate.PID() == 0 || sv.reexec.at.IsZero() {
		t.Fatalf("no dry run: %+v", sv.reexec.candidate)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(sv.reexec.candidate.PID(), &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	sv.onReaped(sv.reexec.candidate.PID(), ws)
}

func TestDryRunThatHangs(t *testing.T) {
	t.Parallel()
	sv, _ := aboutToFollow(t, "#!/bin/sh\nexec sleep 100\n")
	sv.reexec.try(time.Now())
	sv.onTimer(sv.reexec.at)
	var ws unix.WaitStatus
	_, _ = unix.Wait4(sv.reexec.candidate.PID(), &ws, 0, nil)
	sv.onReaped(sv.reexec.candidate.PID(), ws)
	if !strings.Contains(sv.front.problems.reexec, "not done within") {
		t.Errorf("%+v", sv.reexec.candidate)
	}
}

func TestStopEndsTheDryRun(t *testing.T) {
	t.Parallel()
	sv, _ := aboutToFollow(t, "#!/bin/sh\nexec sleep 100\n")
	sv.reexec.try(time.Now())
	sv.stop("test", false)
	var ws unix.WaitStatus
	_, _ = unix.Wait4(sv.reexec.candidate.PID(), &ws, 0, nil)
	sv.onReaped(sv.reexec.candidate.PID(), ws)
	if !ws.Signaled() || sv.front.problems.reexec != "" {
		t.Errorf("%v, %+v", ws, sv.reexec.candidate)
	}
}

// When the execve itself fails, the supervisor goes on as before, and no message is lost.
func TestExecFails(t *testing.T) {
	sv, a := aboutToFollow(t, "no program")
	sv.sink, sv.events.packets = logsink.New(2), make(chan packetEvent)
	sv.events.signals, sv.events.children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	sv.registration.conn = registrationOf(t, sv)
	sv.obeySignals()
	t.Cleanup(func() {
		signal.Stop(sv.events.signals)
		signal.Stop(sv.events.children)
		signal.Reset(syscall.SIGHUP, syscall.SIGTTIN, syscall.SIGTTOU)
	})
	go read(a.s, a.s, sv.events.packets)
	go sv.readRegistrations()
	const messages = 100
	for i := range messages {
		if err := a.Post(message.Put{Name: "n", Data: string(rune('0' + i%10))}); err != nil {
			t.Fatal(err)
		}
	}
	want := sv.reexec.candidate.Wanted
	sv.reexec.candidate.Checked = want
	sv.reexec.try(time.Now())
	if sv.reexec.candidate.Refused != want || !strings.Contains(sv.front.problems.reexec, "exec format error") {
		t.Errorf("%+v", sv.reexec.candidate)
	}
	_ = a.Post(message.ReloadRequest{Source: "after"})
	for sv.requests == sv.served { // the last of them, in order
		sv.onPacket(<-sv.events.packets)
	}
	if sv.registry["n"].Data != "9" {
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
			if got = <-sv.events.signals; got != sig && got != syscall.SIGCHLD {
				t.Errorf("%v", got)
			}
		}
	}
	hello, _ := wire.Encode(message.Hello{})
	_ = unix.Sendmsg(sv.registration.masters, hello, nil, nil, unix.MSG_NOSIGNAL)
	if ev := <-sv.events.packets; ev.from != nil || ev.err != nil {
		t.Errorf("%+v", ev)
	}
}

// registrationOf gives the supervisor a registration socket whose other end is open.
func registrationOf(t *testing.T, sv *supervisor) *seqpacket.Conn {
	t.Helper()
	a, b, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := seqpacket.New(a)
	if err != nil {
		t.Fatal(err)
	}
	sv.registration.masters = b
	t.Cleanup(func() { _ = c.Close(); _ = unix.Close(b) })
	return c
}
