package keeper

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

	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// executable opens an executable file with this content, as a master puts it into the store.
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

// aboutToFollow is a keeper at rest, after the COMMIT of a program with this content.
func aboutToFollow(t *testing.T, content string) (*keeper, actor) {
	t.Helper()
	k, a := restedKeeper(t)
	k.tty, k.resizes, k.args = nil, nil, []string{"/bin/prog", "run"}
	k.follow.self = statFile("/proc/self/exe")
	k.store.put(EntryExe, entry{fd: executable(t, content), data: "v2"})
	k.noteExe()
	k.follow.since = time.Time{}
	return k, a
}

func TestNoteExe(t *testing.T) {
	t.Parallel()
	const none, want, refused = "none", "want", "refused"
	k, _ := aboutToFollow(t, "one")
	check := func(when, state string) {
		t.Helper()
		f := k.follow
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
	put := func(fd int) { k.store.put(EntryExe, entry{fd: fd}); k.noteExe() }
	check("another binary", want)
	k.refuse(k.follow.want, errors.New("because"))
	check("refused", refused)
	if got := k.warnings(); len(got) != 1 || !strings.Contains(got[0], "because") {
		t.Errorf("%q", got)
	}
	k.noteExe()
	check("a COMMIT of the same", refused)
	put(executable(t, "one"))
	check("a copy", want)
	k.follow.since = time.Unix(1, 0)
	k.noteExe()
	if check("once more", want); !k.follow.since.Equal(time.Unix(1, 0)) {
		t.Error("COMMITs of the same binary put it off")
	}
	own, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	put(own)
	check("the keeper's own", none)
	if got := k.warnings(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestFollowsOnlyAtRest(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(k *keeper){
		"an attempt":             func(k *keeper) { k.attempt = &attempt{} },
		"an old master":          func(k *keeper) { k.old = &session{} },
		"a request":              func(k *keeper) { k.count++ },
		"a starting master":      func(k *keeper) { k.starting = &session{pid: 77} },
		"no master":              func(k *keeper) { k.current = nil },
		"a master not alone":     func(k *keeper) { k.current.phase = phaseCommitted },
		"a dead master":          func(k *keeper) { k.current.end = "killed" },
		"somebody else":          func(k *keeper) { k.live++ },
		"stopping":               func(k *keeper) { k.stopping = true },
		"last words to be read":  func(k *keeper) { k.dead[7] = 0 },
		"no door":                func(k *keeper) { k.doorBroken = true },
		"a master about to exit": func(k *keeper) { k.leaving = []int{77} },
	} {
		k, _ := aboutToFollow(t, "#!/bin/sh\n")
		given(k)
		if k.tryFollow(time.Now()); k.follow.pid != 0 {
			t.Errorf("with %s a dry run was started", name)
		}
	}
	k, _ := aboutToFollow(t, "#!/bin/sh\n")
	k.follow.since = time.Now()
	if k.tryFollow(time.Now()); k.follow.pid != 0 || k.dl.follow.IsZero() {
		t.Error("right after COMMIT a dry run was started, or none is planned")
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	const readsState = "grep -q '\"generation\":1' /proc/self/fd/3 && test \"$BATON_ROLE $BATON_FOLLOW $*\" = 'keeper check 3 keeper run' && "
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
			k, _ := aboutToFollow(t, "#!/bin/sh\n"+tt.script+"\n")
			want := k.follow.want
			runDry(t, k)
			f := k.follow
			if f.pid != 0 || !k.dl.follow.IsZero() || (f.checked == want) != (tt.want == "") || (f.refused == want) != (tt.want != "") {
				t.Errorf("%+v", f)
			}
			if !strings.Contains(k.problems[problemFollow], tt.want) || (k.problems[problemFollow] == "") != (tt.want == "") {
				t.Errorf("%q, want %q", k.problems[problemFollow], tt.want)
			}
		})
	}
}

// runDry lets a dry run come to its end.
func runDry(t *testing.T, k *keeper) {
	t.Helper()
	if k.tryFollow(time.Now()); k.follow.pid == 0 || k.dl.follow.IsZero() {
		t.Fatalf("no dry run: %+v", k.follow)
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(k.follow.pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	k.onReaped(k.follow.pid, ws)
}

func TestDryRunThatHangs(t *testing.T) {
	t.Parallel()
	k, _ := aboutToFollow(t, "#!/bin/sh\nexec sleep 100\n")
	k.tryFollow(time.Now())
	k.onTimer(k.dl.follow)
	var ws unix.WaitStatus
	_, _ = unix.Wait4(k.follow.pid, &ws, 0, nil)
	k.onReaped(k.follow.pid, ws)
	if !strings.Contains(k.problems[problemFollow], "not done within") {
		t.Errorf("%+v", k.follow)
	}
}

func TestStopEndsTheDryRun(t *testing.T) {
	t.Parallel()
	k, _ := aboutToFollow(t, "#!/bin/sh\nexec sleep 100\n")
	k.tryFollow(time.Now())
	k.stop(stop{})
	var ws unix.WaitStatus
	_, _ = unix.Wait4(k.follow.pid, &ws, 0, nil)
	k.onReaped(k.follow.pid, ws)
	if !ws.Signaled() || k.problems[problemFollow] != "" {
		t.Errorf("%v, %+v", ws, k.follow)
	}
}

// When the execve itself fails, the keeper goes on as before, and no message is lost.
func TestExecFails(t *testing.T) {
	k, a := aboutToFollow(t, "no program")
	k.sink, k.packets = logsink.New(2), make(chan packetEvent)
	k.signals, k.children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	k.door = doorOf(t, k)
	k.obeySignals()
	t.Cleanup(func() {
		signal.Stop(k.signals)
		signal.Stop(k.children)
		signal.Reset(syscall.SIGHUP, syscall.SIGTTIN, syscall.SIGTTOU)
	})
	go k.read(a.s)
	go k.readDoor()
	const messages = 100
	for i := range messages {
		if err := a.Post(wire.Put{Name: "n", Data: string(rune('0' + i%10))}); err != nil {
			t.Fatal(err)
		}
	}
	want := k.follow.want
	k.follow.checked = want
	k.tryFollow(time.Now())
	if k.follow.refused != want || !strings.Contains(k.problems[problemFollow], "exec format error") {
		t.Errorf("%+v", k.follow)
	}
	_ = a.Post(wire.Request{Source: "after"})
	for k.count == k.served { // the last of them, in order
		k.onPacket(<-k.packets)
	}
	if k.store["n"].data != "9" {
		t.Errorf("%+v", k.store)
	}
	for _, fd := range roundTrip(t, k).fds() {
		if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || f != unix.FD_CLOEXEC {
			t.Errorf("descriptor %d: flags %d, %v", fd, f, err)
		}
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTTIN} {
		_ = syscall.Kill(os.Getpid(), sig)
		for got := os.Signal(syscall.SIGCHLD); got == syscall.SIGCHLD; {
			if got = <-k.signals; got != sig && got != syscall.SIGCHLD {
				t.Errorf("%v", got)
			}
		}
	}
	hello, _ := wire.Encode(wire.Hello{})
	_ = unix.Sendmsg(k.doorFD, hello, nil, nil, unix.MSG_NOSIGNAL)
	if ev := <-k.packets; ev.from != nil || ev.packet == nil {
		t.Errorf("%+v", ev)
	}
}

// doorOf gives the keeper a door whose other end is open.
func doorOf(t *testing.T, k *keeper) *seqpacket.Conn {
	t.Helper()
	a, b, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := seqpacket.New(a)
	if err != nil {
		t.Fatal(err)
	}
	k.doorFD = b
	t.Cleanup(func() { _ = c.Close(); _ = unix.Close(b) })
	return c
}
