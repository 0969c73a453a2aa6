package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// newKeeper is a keeper whose events the test makes.
func newKeeper(t *testing.T) *keeper {
	t.Helper()
	k := &keeper{
		log: slog.New(slog.DiscardHandler), pid: os.Getpid(), started: time.Now(), store: store{},
		packets: make(chan packetEvent, 100), opts: Options{Version: "v"}, dead: map[int]unix.WaitStatus{}, calls: make(chan func()),
		args:     []string{"/proc/self/exe"},
		statuses: map[int64]*wire.Status{}, sink: logsink.New(2), backoff: restartBackoff,
	}
	t.Cleanup(func() {
		for name := range k.store {
			k.store.drop(name)
		}
	})
	return k
}

// actor is a master that the test plays, and the keeper's side of the conversation with it.
type actor struct {
	*seqpacket.Conn
	t *testing.T
	k *keeper
	s *session
}

func (k *keeper) newActor(t *testing.T, p phase, pid int) actor {
	t.Helper()
	ours, theirs := talk(t)
	return actor{Conn: theirs, t: t, k: k, s: &session{conn: ours, pid: pid, pidfd: -1, phase: p}}
}

// serving is a keeper with a master that can be asked to reload.
func serving(t *testing.T) (*keeper, actor) {
	t.Helper()
	k := newKeeper(t)
	a := k.newActor(t, phaseFirst, 1<<30)
	k.starting = a.s
	a.says(wire.Commit{})
	a.hears(&wire.Committed{})
	a.hears(&wire.Alone{})
	a.hears(&wire.End{})
	a.says(wire.Serving{Workers: 2})
	return k, a
}

// reloading is a keeper in whose attempt the successor has said hello.
func reloading(t *testing.T) (k *keeper, master, successor actor) {
	t.Helper()
	k, master = serving(t)
	k.request("test", false)
	k.startReload(time.Now())
	master.hears(&wire.Reload{})
	master.says(wire.Upgrading{Attempt: k.attempt.id})
	successor = k.newActor(t, phaseDoor, sleeper(t).Process.Pid)
	if err := k.admit(successor.s, hello(k.attempt.id)); err != nil {
		t.Fatal(err)
	}
	return k, master, successor
}

func hello(attempt string) wire.Frame { return frame(wire.Hello{Attempt: attempt}) }

func frame(m wire.Message) wire.Frame {
	body, _ := json.Marshal(m)
	return wire.Frame{V: wire.Version, T: m.Kind(), Body: body}
}

// says is an event: the master has said m.
func (a actor) says(m wire.Message, fds ...int) {
	a.k.onPacket(packetEvent{from: a.s, packet: &seqpacket.Packet{Frame: frame(m), FDs: fds}})
}

// dies is an event: the end of the conversation.
func (a actor) dies() { a.k.onEnd(a.s) }

func (a actor) hears(m wire.Message) {
	a.t.Helper()
	hear(a.t, a.Conn, m)
}

func (a actor) hearsNoMore() {
	a.t.Helper()
	silent(a.t, a.s.conn, a.Conn)
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	const pid = 1 << 30
	attempting := func(k *keeper) { k.current, k.generation, k.attempt = &session{}, 3, &attempt{id: "a"} }
	restarting := func(k *keeper) { k.starting, k.generation = &session{pid: pid, phase: phaseRestart}, 3 }
	for _, tt := range []struct {
		name  string
		given func(k *keeper)
		hello wire.Frame
		phase phase // phaseDoor: refused
	}{
		{"the first master", func(k *keeper) { k.starting = &session{pid: pid, phase: phaseFirst} }, hello(""), phaseFirst},
		{"after a crash", restarting, hello(""), phaseRestart},
		{"after a crash, with the mark of its attempt", restarting, hello("a"), phaseRestart},
		{"not the process that was started", func(k *keeper) { k.starting = &session{pid: pid + 1, phase: phaseFirst} }, hello(""), phaseDoor},
		{"a successor", attempting, hello("a"), phaseSuccessor},
		{"of another attempt", attempting, hello("b"), phaseDoor},
		{"of none", attempting, hello(""), phaseDoor},
		{"the second of one attempt", func(k *keeper) { attempting(k); k.attempt.successor = &session{} }, hello("a"), phaseDoor},
		{"of an attempt that was given up", func(k *keeper) { attempting(k); k.attempt.phase = attemptKilled }, hello("a"), phaseDoor},
		{"while stopping", func(k *keeper) { attempting(k); k.stopping = true }, hello("a"), phaseDoor},
		{"nobody is waited for", func(k *keeper) { k.current = &session{} }, hello(""), phaseDoor},
		{"another version", attempting, wire.Frame{V: wire.Version + 1, T: "hello"}, phaseDoor},
		{"no hello", attempting, frame(wire.Commit{}), phaseDoor},
	} {
		k := newKeeper(t)
		tt.given(k)
		s := &session{pid: pid}
		if err := k.admit(s, tt.hello); (err == nil) != (tt.phase != phaseDoor) || s.phase != tt.phase {
			t.Errorf("%s: phase %d, %v, want %d", tt.name, s.phase, err, tt.phase)
		}
	}
}

func TestWelcome(t *testing.T) {
	t.Parallel()
	for p, generation := range map[phase]int{phaseFirst: 4, phaseSuccessor: 4, phaseRestart: 3} {
		k := newKeeper(t)
		k.generation = 3
		k.store.put("count", entry{fd: -1, data: "x"})
		a := k.newActor(t, p, 1<<30)
		a.s.seen = 7
		k.welcome(a.s)
		var w wire.Welcome
		a.hears(&w)
		if w.Role != p.role() || w.Generation != generation || w.Seen != 7 || w.KeeperPID != os.Getpid() {
			t.Errorf("%+v", w)
		}
		a.hears(&wire.Item{})
		a.hears(&wire.End{})
	}
}

func TestFirstMaster(t *testing.T) {
	t.Parallel()
	k, a := serving(t)
	if k.generation != 1 || k.current != a.s || k.starting != nil || a.s.phase != phaseCurrent {
		t.Errorf("generation %d, %+v", k.generation, k.current)
	}
	a.says(wire.Commit{}) // once more
	a.hears(&wire.Refused{})
	a.hearsNoMore()
}

func TestCommitSwapsEverything(t *testing.T) {
	t.Parallel()
	k, master, successor := reloading(t)
	old, fresh := hold(t), hold(t)
	master.says(wire.Put{Name: "listen/old"}, old.fd)
	successor.says(wire.Put{Name: "listen/new"}, fresh.fd)
	successor.says(wire.Drop{Name: "listen/old"})
	successor.says(wire.Preparing{ReadyTimeout: 1, StopTimeout: 2, DrainTimeout: 3})
	if len(k.store.names("")) != 1 {
		t.Errorf("before COMMIT: %v", k.store)
	}
	successor.says(wire.Commit{Seen: 1})
	if k.generation != 2 || k.current != successor.s || k.old != master.s || k.attempt != nil || k.dl.old.IsZero() || !k.dl.attempt.IsZero() {
		t.Errorf("%+v", k)
	}
	old.want(false, "after COMMIT")
	fresh.want(true, "after COMMIT")

	var c wire.Committed
	successor.hears(&c)
	master.hears(&wire.Superseded{})
	if r := k.results[0]; c.Generation != 2 || !r.OK || r.Seen != 1 || r.Generation != 2 {
		t.Errorf("%+v, %+v", c, r)
	}
	if k.stopLimit(false) != 2 || k.stopLimit(true) != 3 {
		t.Errorf("stop limits %v, %v", k.stopLimit(false), k.stopLimit(true))
	}

	late := hold(t)
	master.says(wire.Put{Name: "count"}, late.fd) // it does not know yet
	late.want(false, "said by one who is superseded")
	master.says(wire.Request{Source: wire.SourceWatch})
	if len(k.store.names("")) != 1 || k.count != 1 {
		t.Errorf("a superseded master was obeyed: %v", k.store)
	}
	successor.hearsNoMore() // not alone
}

func TestAloneWhenTheOldMasterHasGone(t *testing.T) {
	t.Parallel()
	k, master, successor := reloading(t)
	k.store.put(WorkerEntry(7), entry{fd: -1, data: "{}"})
	successor.says(wire.Commit{Seen: 1})
	successor.hears(&wire.Committed{})
	master.dies() // and had been reaped: it is no child
	if k.old != nil || !k.dl.old.IsZero() {
		t.Error("the old master is waited for")
	}
	successor.hears(&wire.Alone{})
	var it wire.Item
	successor.hears(&it)
	if it.Name != WorkerEntry(7) {
		t.Errorf("%+v", it)
	}
	successor.hears(&wire.End{})
	k.announceAlone()
	successor.hearsNoMore()
}

func TestCommitIsRefused(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(k *keeper){
		"given up":              func(k *keeper) { k.attempt.phase = attemptKilled },
		"ended":                 func(k *keeper) { k.failAttempt() },
		"its sponsor has died":  func(k *keeper) { k.onEnd(k.current) },
		"its sponsor is not it": func(k *keeper) { k.current = &session{conn: k.current.conn} },
		"everything is to stop": func(k *keeper) { k.stopping = true },
	} {
		k, _, successor := reloading(t)
		given(k)
		successor.says(wire.Put{Name: "count"})
		successor.says(wire.Commit{Seen: 1})
		successor.hears(&wire.Refused{})
		if k.generation != 1 || k.current == successor.s || len(k.store) != 0 {
			t.Errorf("%s: generation %d, store %v", name, k.generation, k.store)
		}
		successor.s.staged.discard()
	}
}

func TestFailedAttemptLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(k *keeper, master, successor actor){
		"it says why and goes": func(k *keeper, master, successor actor) {
			successor.says(wire.Fail{Error: "port taken"})
			successor.dies()
			master.says(wire.UpgradeFailed{Attempt: k.attempt.id, Error: "successor: gone"})
		},
		"the master hears of it first": func(k *keeper, master, successor actor) {
			successor.says(wire.Fail{Error: "port taken"})
			master.says(wire.UpgradeFailed{Attempt: k.attempt.id, Error: "successor: gone"})
			successor.dies()
		},
		"its last word is still to be read when the master hears of it": func(k *keeper, master, successor actor) {
			master.says(wire.UpgradeFailed{Attempt: k.attempt.id, Error: "successor: gone"})
			successor.says(wire.Fail{Error: "port taken"})
			successor.dies()
		},
		"it is late, and then gone": func(k *keeper, master, successor actor) {
			k.attempt.blame("port taken")
			k.attemptTimeout()
			successor.dies()
			master.says(wire.UpgradeFailed{Attempt: k.attempt.id, Error: "killed"})
		},
		"it is late, and nobody hears of its end": func(k *keeper, _, _ actor) {
			k.attempt.blame("port taken")
			k.attemptTimeout()
			k.attemptTimeout()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, master, successor := reloading(t)
			kept, fresh, sock := hold(t), hold(t), path(t, "sock")
			master.says(wire.Put{Name: "listen/kept"}, kept.fd)
			successor.says(wire.Put{Name: "listen/fresh", Unlink: made(t, sock)}, fresh.fd)
			successor.says(wire.Drop{Name: "listen/kept"})
			fail(k, master, successor)

			fresh.want(false, "after the failure")
			wantPath(t, sock, false, "after the failure")
			kept.want(true, "after the failure")
			if k.attempt != nil || k.generation != 1 || k.current != master.s || !k.dl.attempt.IsZero() {
				t.Errorf("attempt %+v, generation %d", k.attempt, k.generation)
			}
			r := k.results[0]
			if r.OK || r.Seen != 1 || r.Generation != 1 || r.Error != "port taken" {
				t.Errorf("%+v", r)
			}
			if successor.s.phase != phaseGone {
				late, lateSock := hold(t), path(t, "late")
				successor.says(wire.Put{Name: "listen/late", Unlink: made(t, lateSock)}, late.fd)
				late.want(false, "said too late")
				wantPath(t, lateSock, false, "said too late")
				successor.says(wire.Commit{Seen: 1})
			}
			if k.generation != 1 {
				t.Error("a failed attempt was committed")
			}
			k.startReload(time.Now())
			if k.attempt != nil {
				t.Error("another attempt, that nobody has asked for")
			}
		})
	}
}

func TestUpgradeFailedOfAnotherAttempt(t *testing.T) {
	t.Parallel()
	k, master, _ := reloading(t)
	master.says(wire.UpgradeFailed{Attempt: "of yesterday", Error: "x"})
	if k.attempt == nil {
		t.Error("the attempt was ended")
	}
}

func TestMasterDiesBeforeCommit(t *testing.T) {
	t.Parallel()
	k, master, successor := reloading(t)
	sock := path(t, "sock")
	successor.says(wire.Put{Name: "listen/fresh", Unlink: made(t, sock)})
	master.dies()
	wantPath(t, sock, false, "after the failure")
	if k.attempt != nil || k.current != nil || k.dl.restart.IsZero() || k.dl.restart.After(time.Now()) {
		t.Errorf("attempt %v, current %v, restart %v", k.attempt, k.current, k.dl.restart)
	}
	if n := len(k.results); n != 1 || k.results[0].OK || !strings.Contains(k.results[0].Error, "died") {
		t.Errorf("%+v", k.results)
	}
	successor.says(wire.Commit{})
	successor.dies()
	if k.generation != 1 || k.current != nil {
		t.Error("the successor of a dead master took over")
	}
}

// A master that was dead already when it was asked to reload has begun nothing: the next one is asked.
func TestMasterDiesBeforeTheReload(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	k.request("test", false)
	k.startReload(time.Now())
	master.dies()
	if len(k.results) != 0 || k.attempt != nil || !k.dl.attempt.IsZero() {
		t.Errorf("%+v, %+v", k.results, k.attempt)
	}
	again := k.newActor(t, phaseRestart, 1<<29)
	k.starting = again.s
	again.says(wire.Commit{})
	again.says(wire.Serving{})
	k.startReload(time.Now())
	if k.attempt == nil || k.attempt.sponsor != again.s || k.attempt.seen != 1 {
		t.Errorf("%+v", k.attempt)
	}
}

// TestReloadsDoNotHideHowLongMastersHaveLived: what makes up for a death is the time without another one, not the life of
// a single master, which ends with the next reload.
func TestReloadsDoNotHideHowLongMastersHaveLived(t *testing.T) {
	t.Parallel()
	k, _, successor := reloading(t)
	k.masterSince = time.Now().Add(-time.Hour)
	k.backoff.Failures = restartBackoff.Free + 5
	successor.says(wire.Commit{})
	successor.hears(&wire.Committed{})
	successor.dies()
	if k.backoff.Failures != 1 {
		t.Errorf("after an hour without a death, and one right after a reload: %v deaths count", k.backoff.Failures)
	}
}

func TestRestartBacksOff(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	wait := func() time.Duration { return time.Until(k.dl.restart).Round(50 * time.Millisecond) }
	for i, ms := range []int{0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000} {
		k.planRestart(0)
		want := time.Duration(ms) * time.Millisecond
		if got := wait(); got > want || got < want-time.Second {
			t.Errorf("crash %d: restart in %v, want %v", i+1, got, want)
		}
	}
	for range 100 {
		k.planRestart(0)
	}
	if got := wait(); got > restartBackoff.Max {
		t.Errorf("restart in %v", got)
	}
	k.planRestart(time.Hour)
	if got := wait(); got > 0 {
		t.Errorf("a master that had lived long was not forgiven: restart in %v", got)
	}
}

func TestRestartedMaster(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	master.dies()
	k.resizeBy(2) // while there is none
	again := k.newActor(t, phaseRestart, 1<<29)
	k.starting = &session{pid: again.s.pid, phase: phaseRestart}
	if err := k.admit(again.s, hello("")); err != nil || again.s.phase != phaseRestart {
		t.Fatal(again.s.phase, err)
	}
	again.says(wire.Commit{})
	var c wire.Committed
	again.hears(&c)
	if c.Generation != 1 || k.generation != 1 {
		t.Errorf("a restart used up a generation: %+v", c)
	}
	again.hears(&wire.Alone{})
	again.hears(&wire.End{})
	var r wire.Resize
	again.hears(&r)
	if r.Delta != 2 {
		t.Errorf("%+v", r)
	}
	again.hearsNoMore()
}

// A request that the dead master may not have read is said again, one that it has answered is not.
func TestResizeIsSaidUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	k.resizeBy(1)
	k.resizeBy(2)
	k.resizeBy(4)
	master.says(wire.Put{Name: EntryCount, Resized: 1})
	master.dies()
	again := k.newActor(t, phaseRestart, 1<<29)
	k.starting = again.s
	again.says(wire.Commit{})
	again.hears(&wire.Committed{})
	again.hears(&wire.Alone{})
	again.hears(&wire.Item{}) // count
	again.hears(&wire.End{})
	for _, want := range []wire.Resize{{Delta: 2, Seq: 2}, {Delta: 4, Seq: 3}} {
		var r wire.Resize
		if again.hears(&r); r != want {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
	again.says(wire.Put{Name: EntryCount, Resized: 3})
	again.hearsNoMore()
	if len(k.resizes) != 0 {
		t.Errorf("%+v", k.resizes)
	}
}

// What a superseded master has counted counts, until it has left.
func TestLateWords(t *testing.T) {
	t.Parallel()
	k, master, successor := reloading(t)
	successor.says(wire.Commit{Seen: 1})
	master.says(wire.Put{Name: EntryStats, Data: "1"})
	master.says(wire.Cut{Generation: 1, Requests: 3})
	master.says(wire.Put{Name: EntryCount, Data: "2"})
	master.says(wire.Put{Name: "config", Data: "3"})
	master.says(wire.Left{})
	master.says(wire.Put{Name: EntryStats, Data: "4"})
	if k.store[EntryStats].data != "1" || len(k.store) != 1 || k.results[0].CutRequests != 3 {
		t.Errorf("%+v, %+v", k.store, k.results)
	}
}

// The last words of a worker that ends while there is no master are kept for the next one.
func TestWorkerThatDiesWithoutAMaster(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	h := hold(t)
	k.store.put(WorkerEntry(77), entry{fd: h.fd, data: "{}"})
	master.dies()
	k.onReaped(77, unix.WaitStatus(9))
	h.want(true, "while there is no master")
	again := k.newActor(t, phaseRestart, 1<<29)
	k.starting = again.s
	again.says(wire.Commit{})
	again.hears(&wire.Committed{})
	again.hears(&wire.Alone{})
	var it wire.Item
	p := hear(t, again.Conn, &it)
	if p.Close(); it.Name != WorkerEntry(77) || !it.HasFD {
		t.Errorf("%+v", it)
	}
	again.hears(&wire.End{})
	again.says(wire.Gone{PID: 77})
	var e wire.Exited
	if again.hears(&e); e != (wire.Exited{PID: 77, Status: 9, Known: true}) {
		t.Errorf("%+v", e)
	}
	h.want(false, "once the master has asked")
	again.says(wire.Gone{PID: 77})
	again.hears(&e)
	again.hearsNoMore()
}

func TestMasterThatDoesNotCommit(t *testing.T) {
	k, master := serving(t)
	master.dies()
	child := sleeper(t)
	k.starting = &session{pid: child.Process.Pid, pidfd: -1, phase: phaseRestart}
	k.restartMaster()
	if !killed(child) || k.lastDeath == "" {
		t.Error("it was not killed")
	}
}

func TestRequestsCoalesce(t *testing.T) {
	t.Parallel()
	k, master, successor := reloading(t)
	k.startReload(time.Now()) // one at a time
	for range 3 {
		k.request("test", false) // while it runs, and after its hello
	}
	successor.says(wire.Commit{Seen: k.attempt.seen})
	master.dies()
	successor.hears(&wire.Committed{})
	successor.hears(&wire.Alone{})
	successor.hears(&wire.End{})
	k.startReload(time.Now())
	if k.attempt != nil {
		t.Error("a reload before the last generation serves")
	}
	successor.says(wire.Serving{Workers: 2})
	k.startReload(time.Now())
	successor.hears(&wire.Reload{})
	if k.attempt == nil || k.attempt.seen != 4 || k.attempt.sponsor != successor.s {
		t.Fatalf("%+v", k.attempt)
	}
	second := k.newActor(t, phaseDoor, sleeper(t).Process.Pid)
	if err := k.admit(second.s, hello(k.attempt.id)); err != nil {
		t.Fatal(err)
	}
	second.says(wire.Commit{Seen: 4})
	k.startReload(time.Now())
	if k.attempt != nil || k.served != 4 {
		t.Errorf("a third attempt: %+v", k.attempt)
	}
}

func TestReloadWaits(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(k *keeper){
		"for the old master's end": func(k *keeper) { k.current.phase = phaseCommitted },
		"for a master":             func(k *keeper) { k.current = nil },
		"for ever, when stopping":  func(k *keeper) { k.stopping = true },
		"for somebody to ask":      func(k *keeper) { k.served = k.count },
	} {
		k, master := serving(t)
		k.request("test", false)
		given(k)
		k.startReload(time.Now())
		if k.attempt != nil {
			t.Errorf("%s: a reload was started", name)
		}
		master.hearsNoMore()
	}
}

// TestRequestBeforeTheHello: who replaces the binary and asks for a reload gets that binary, and not the one that a successor
// had executed before. Without another binary one reload serves both.
func TestRequestBeforeTheHello(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		binary func(successor int) string // at the path when it says hello
		seen   int64
	}{
		"the binary is the same":  {func(pid int) string { return fmt.Sprintf("/proc/%d/exe", pid) }, 2},
		"the binary was replaced": {func(int) string { return "/proc/self/exe" }, 1},
		"the binary is not there": {func(int) string { return "/proc/self/none" }, 1},
	} {
		k, master := serving(t)
		k.request("test", false)
		k.startReload(time.Now())
		master.hears(&wire.Reload{})
		k.request("test", false)
		successor := k.newActor(t, phaseDoor, sleeper(t).Process.Pid)
		k.args[0] = tt.binary(successor.s.pid)
		if err := k.admit(successor.s, hello(k.attempt.id)); err != nil {
			t.Fatal(err)
		}
		k.welcome(successor.s)
		var w wire.Welcome
		successor.hears(&w)
		if w.Seen != tt.seen || k.attempt.seen != tt.seen {
			t.Errorf("%s: seen %d and %d, want %d", name, w.Seen, k.attempt.seen, tt.seen)
		}
	}
}

func TestSeenAtHello(t *testing.T) {
	t.Parallel()
	one, other, none := fileID{1, 2}, fileID{1, 3}, fileID{}
	for _, tt := range []struct {
		runs, there fileID
		want        int64
	}{{one, one, 9}, {one, other, 4}, {one, none, 4}, {none, one, 4}, {none, none, 4}} {
		if got := seenAtHello(4, 9, tt.runs, tt.there); got != tt.want {
			t.Errorf("runs %v, there is %v: %d, want %d", tt.runs, tt.there, got, tt.want)
		}
	}
}

func TestStormIsPaced(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	now := time.Now()
	k.pace.started = now
	for range stormSize {
		k.request("HUP", true)
	}
	k.startReload(now)
	if k.attempt != nil || k.dl.reload != now.Add(stormPace) {
		t.Errorf("attempt %v, next %v", k.attempt, k.dl.reload.Sub(now))
	}
	k.startReload(now.Add(stormPace))
	master.hears(&wire.Reload{})
	if k.attempt == nil || k.attempt.seen != stormSize || !k.dl.reload.IsZero() {
		t.Errorf("%+v", k.attempt)
	}
}

func TestReapedWorkerLeavesTheStore(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	h := hold(t)
	k.store.put(WorkerEntry(77), entry{fd: h.fd})
	k.onReaped(77, unix.WaitStatus(7<<8))
	h.want(false, "reaped")
	var e wire.Exited
	master.hears(&e)
	if e != (wire.Exited{PID: 77, Status: 7 << 8, Known: true}) {
		t.Errorf("%+v", e)
	}
}

func TestGoneQuestion(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	alive := sleeper(t).Process.Pid
	master.says(wire.Gone{PID: alive}) // answered when it is reaped
	k.store.put(WorkerEntry(1<<30), entry{fd: -1})
	master.says(wire.Gone{PID: 1 << 30})
	var e wire.Exited
	master.hears(&e)
	if e != (wire.Exited{PID: 1 << 30}) || len(k.store) != 0 {
		t.Errorf("%+v, %v", e, k.store)
	}
	master.hearsNoMore()
}

func TestKillIsForChildrenOnly(t *testing.T) {
	t.Parallel()
	_, master := serving(t)
	child := sleeper(t)
	parent, grandchild := family(t)
	master.says(wire.Kill{PID: child.Process.Pid})
	master.says(wire.Kill{PID: grandchild})
	if !killed(child) {
		t.Error("a child was not killed")
	}
	if zombie(grandchild) || !running(parent) {
		t.Error("a process that is no child was killed")
	}
}

func TestFirstMasterFails(t *testing.T) {
	for status, code := range map[unix.WaitStatus]int{100 << 8: 100, 111 << 8: 111, 9: exitSystem, 0: exitSystem} {
		k := newKeeper(t)
		k.starting = &session{pid: 1 << 30, phase: phaseFirst}
		k.onReaped(1<<30, status)
		if k.exit != code || !k.finished() {
			t.Errorf("status %#x: exit code %d, want %d, finished %v", status, k.exit, code, k.finished())
		}
	}
}

func TestStop(t *testing.T) {
	k, master, successor := reloading(t)
	ln := hold(t)
	k.store.put("listen/a", entry{fd: ln.fd})
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	k.store.put(WorkerEntry(77), entry{fd: ours})
	w, err := seqpacket.New(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	before := int64(monotime.Now())
	k.stop(stop{})

	ln.want(false, "at a stop")
	var toWorker wire.Drain
	var toMaster wire.Stop
	hear(t, w, &toWorker)
	master.hears(&toMaster)
	end := before + int64(defaultStop)
	if toWorker.Deadline != toMaster.Deadline || !toWorker.Stop || toWorker.Deadline <= before || toWorker.Deadline >= end {
		t.Errorf("%+v, %+v, the stop ends at %d", toWorker, toMaster, end)
	}
	successor.says(wire.Commit{})
	if k.current != master.s || k.dl.kill.IsZero() || k.killing {
		t.Error("a successor took over in a stop, or somebody was killed")
	}
}

func TestStopLimit(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	if k.stopLimit(false) != defaultStop || k.stopLimit(true) != defaultDrain {
		t.Error("not the defaults")
	}
	k.lastTimeouts = wire.Preparing{StopTimeout: int64(time.Second), DrainTimeout: int64(time.Minute)}
	if k.stopLimit(false) != time.Second || k.stopLimit(true) != time.Minute {
		t.Error("not those of the last master")
	}
	k.current = &session{timeouts: wire.Preparing{StopTimeout: int64(time.Hour), DrainTimeout: 1}}
	if k.stopLimit(false) != time.Hour || k.stopLimit(true) != 1 {
		t.Error("not those of the master")
	}
	for _, limit := range []time.Duration{0, 1, time.Second, time.Hour} {
		if m := stopMargin(limit); m < 0 || m > limit/8 {
			t.Errorf("of %v, %v are kept", limit, m)
		}
	}
}

func TestUnknownMessageIsDropped(t *testing.T) {
	t.Parallel()
	k, master := serving(t)
	h := hold(t)
	p := &seqpacket.Packet{Frame: wire.Frame{V: 9, T: "dance"}, FDs: []int{h.fd}}
	k.onPacket(packetEvent{from: master.s, packet: p})
	h.want(false, "with a message of a newer release")
	master.hearsNoMore()
}

func TestBlameKeepsTheFirstWord(t *testing.T) {
	t.Parallel()
	var a attempt
	a.blame("first")
	a.blame("second")
	if a.reason != "first" {
		t.Error(a.reason)
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		at  time.Time
		due bool
	}{{time.Time{}, false}, {now.Add(1), false}, {now, true}, {now.Add(-time.Hour), true}} {
		at := tt.at
		if due(&at, now) != tt.due || at.IsZero() != (tt.due || tt.at.IsZero()) {
			t.Errorf("%v: now %v", tt, at)
		}
	}
}

// A process that says no hello, or a wrong one, is told so and let go.
func TestDoor(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	k.onHello(seqpacket.Packet{Frame: hello("x")}) // without a descriptor
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := seqpacket.New(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	k.onHello(seqpacket.Packet{Frame: hello("x"), FDs: []int{theirs}})
	var r wire.Refused
	hear(t, c, &r)
	if _, err := c.Recv(); err == nil || !strings.Contains(r.Error, `"x"`) {
		t.Errorf("%+v, %v", r, err)
	}

	ours, theirs, err = seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	k.starting = &session{pid: os.Getpid(), phase: phaseFirst}
	first, err := seqpacket.New(ours)
	if err != nil {
		t.Fatal(err)
	}
	k.onHello(seqpacket.Packet{Frame: hello(""), FDs: []int{theirs}})
	hear(t, first, &wire.Welcome{})
	hear(t, first, &wire.End{})
	if err := errors.Join(first.Post(wire.Commit{Seen: 1}), first.Close()); err != nil {
		t.Fatal(err)
	}
	if ev := <-k.packets; ev.packet == nil || ev.packet.Frame.T != (wire.Commit{}).Kind() || ev.from.phase != phaseFirst {
		t.Errorf("%+v", ev)
	}
	if ev := <-k.packets; ev.packet != nil {
		t.Errorf("%+v", ev)
	}
}

// The kernel may take long for the end of a process. Its workers need not wait for it, but the next reload has to.
func TestMasterThatHasLeftIsInNobodysWay(t *testing.T) {
	t.Parallel()
	k, master, successor := reloading(t)
	successor.says(wire.Commit{Seen: 1})
	successor.hears(&wire.Committed{})
	master.says(wire.Left{})
	successor.hears(&wire.Alone{})
	successor.hears(&wire.End{})
	successor.says(wire.Serving{Workers: 2})
	k.request("test", false)
	k.startReload(time.Now())
	if k.attempt != nil {
		t.Error("a reload was started while the master before the last was there")
	}
	master.dies()
	k.startReload(time.Now())
	successor.hears(&wire.Reload{})
	successor.hearsNoMore()
}
