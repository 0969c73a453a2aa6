package supervisor

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

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/supervisor/reexec"
	"baton/master/internal/systemd"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// testSupervisor is a supervisor whose events the test makes.
func testSupervisor(t *testing.T) *supervisor {
	t.Helper()
	sv := newSupervisor("v", linux{})
	sv.log, sv.sink, sv.args = slog.New(slog.DiscardHandler), logsink.New(2), []string{"/proc/self/exe"}
	sv.systemd = systemd.Open(systemd.Options{Log: sv.log})
	sv.events.packets = make(chan packetEvent, 100)
	t.Cleanup(func() {
		for name := range sv.registry {
			sv.registry.drop(name)
		}
	})
	return sv
}

// actor is a master that the test plays, and the supervisor's side of the conversation with it.
type actor struct {
	*seqpacket.Conn
	t  *testing.T
	sv *supervisor
	s  *masterConn
}

func (sv *supervisor) newActor(t *testing.T, p phase, pid int) actor {
	t.Helper()
	ours, theirs := talk(t)
	return actor{Conn: theirs, t: t, sv: sv, s: &masterConn{conn: ours, pid: pid, pidfd: -1, phase: p}}
}

// serving is a supervisor with a master that can be asked to reload.
func serving(t *testing.T) (*supervisor, actor) {
	t.Helper()
	sv := testSupervisor(t)
	a := sv.newActor(t, phaseFirst, 1<<30)
	sv.starting = a.s
	a.says(message.Commit{})
	a.hears(&message.Committed{})
	a.hears(&message.TakeoverComplete{})
	a.hears(&message.End{})
	a.says(message.Serving{Workers: 2})
	return sv, a
}

// reloading is a supervisor in whose attempt the successor has said hello.
func reloading(t *testing.T) (sv *supervisor, master, successor actor) {
	t.Helper()
	sv, master = serving(t)
	sv.request("test", false)
	sv.startReload(time.Now())
	master.hears(&message.Reload{})
	master.says(message.Upgrading{Attempt: sv.attempt.id})
	successor = sv.newActor(t, phaseNew, sleeper(t).Process.Pid)
	if err := sv.admit(successor.s, hello(sv.attempt.id)); err != nil {
		t.Fatal(err)
	}
	return sv, master, successor
}

func hello(attempt string) wire.Frame { return frame(message.Hello{Attempt: attempt}) }

func frame(m wire.Message) wire.Frame {
	body, _ := json.Marshal(m)
	return wire.Frame{V: wire.Version, T: m.Kind(), Body: body}
}

// says is an event: the master has said m.
func (a actor) says(m wire.Message, fds ...int) {
	a.sv.onPacket(packetEvent{from: a.s, packet: seqpacket.Packet{Frame: frame(m), FDs: fds}})
}

// dies is an event: the end of the conversation.
func (a actor) dies() { a.sv.onEnd(a.s) }

func (a actor) hears(m wire.Message) {
	a.t.Helper()
	hear(a.t, a.Conn, m)
}

func (a actor) hearsNoMore() {
	a.t.Helper()
	silent(a.t, a.s.conn.(*seqpacket.Conn), a.Conn)
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	const pid = 1 << 30
	attempting := func(sv *supervisor) { sv.current, sv.generation, sv.attempt = &masterConn{}, 3, &attempt{id: "a"} }
	restarting := func(sv *supervisor) { sv.starting, sv.generation = &masterConn{pid: pid, phase: phaseRestart}, 3 }
	for _, tt := range []struct {
		name  string
		given func(sv *supervisor)
		hello wire.Frame
		phase phase // phaseNew: refused
	}{
		{
			"the first master", func(sv *supervisor) { sv.starting = &masterConn{pid: pid, phase: phaseFirst} },
			hello(""), phaseFirst,
		},
		{"after a crash", restarting, hello(""), phaseRestart},
		{"after a crash, with the mark of its attempt", restarting, hello("a"), phaseRestart},
		{
			"not the process that was started",
			func(sv *supervisor) { sv.starting = &masterConn{pid: pid + 1, phase: phaseFirst} }, hello(""), phaseNew,
		},
		{"a successor", attempting, hello("a"), phaseSuccessor},
		{"of another attempt", attempting, hello("b"), phaseNew},
		{"of none", attempting, hello(""), phaseNew},
		{
			"the second of one attempt", func(sv *supervisor) { attempting(sv); sv.attempt.successor = &masterConn{} },
			hello("a"), phaseNew,
		},
		{
			"of an attempt that was given up",
			func(sv *supervisor) { attempting(sv); sv.attempt.phase = attemptKilled }, hello("a"), phaseNew,
		},
		{
			"while stopping", func(sv *supervisor) { attempting(sv); sv.stopping.phase = stopDraining }, hello("a"),
			phaseNew,
		},
		{"nobody is waited for", func(sv *supervisor) { sv.current = &masterConn{} }, hello(""), phaseNew},
		{"another version", attempting, wire.Frame{V: wire.Version + 1, T: "hello"}, phaseNew},
		{"no hello", attempting, frame(message.Commit{}), phaseNew},
	} {
		sv := testSupervisor(t)
		tt.given(sv)
		s := &masterConn{pid: pid}
		if err := sv.admit(s, tt.hello); (err == nil) != (tt.phase != phaseNew) || s.phase != tt.phase {
			t.Errorf("%s: phase %d, %v, want %d", tt.name, s.phase, err, tt.phase)
		}
	}
}

func TestWelcome(t *testing.T) {
	t.Parallel()
	for p, generation := range map[phase]int{phaseFirst: 4, phaseSuccessor: 4, phaseRestart: 3} {
		sv := testSupervisor(t)
		sv.generation = 3
		sv.registry.put("count", entry{FD: -1, Data: "x"})
		a := sv.newActor(t, p, 1<<30)
		a.s.seen = 7
		sv.welcome(a.s)
		var w message.Welcome
		a.hears(&w)
		if w.Role != roles[p] || w.Generation != generation || w.Seen != 7 || w.SupervisorPID != os.Getpid() {
			t.Errorf("%+v", w)
		}
		a.hears(&message.Item{})
		a.hears(&message.End{})
	}
}

func TestCommitSwapsEverything(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	old, fresh := hold(t), hold(t)
	master.says(message.Put{Name: "listen/old"}, old.fd)
	successor.says(message.Put{Name: "listen/new"}, fresh.fd)
	successor.says(message.Drop{Name: "listen/old"})
	successor.says(message.Preparing{ReadyTimeout: 1, StopTimeout: 2, DrainTimeout: 3})
	if len(sv.registry.names("")) != 1 {
		t.Errorf("before COMMIT: %v", sv.registry)
	}
	successor.says(message.Commit{Seen: 1})
	if sv.generation != 2 || sv.current != successor.s || sv.old != master.s || sv.attempt != nil ||
		sv.oldBy.IsZero() || !sv.attemptBy.IsZero() {
		t.Errorf("%+v", sv)
	}
	old.want(false, "after COMMIT")
	fresh.want(true, "after COMMIT")

	var c message.Committed
	successor.hears(&c)
	master.hears(&message.Superseded{})
	if r := sv.results.All[0]; c.Generation != 2 || !r.OK || r.Seen != 1 || r.Generation != 2 {
		t.Errorf("%+v, %+v", c, r)
	}
	if sv.stopLimit(false) != 2 || sv.stopLimit(true) != 3 {
		t.Errorf("stop limits %v, %v", sv.stopLimit(false), sv.stopLimit(true))
	}

	late := hold(t)
	master.says(message.Put{Name: "count"}, late.fd) // it does not know yet
	late.want(false, "said by one who is superseded")
	master.says(message.ReloadRequest{Source: message.SourceWatch})
	if len(sv.registry.names("")) != 1 || sv.requests != 1 {
		t.Errorf("a superseded master was obeyed: %v", sv.registry)
	}
	successor.hearsNoMore() // not alone
}

func TestCompleteWhenTheOldMasterIsGone(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	sv.registry.put(WorkerEntry(7), entry{FD: -1, Data: "{}"})
	successor.says(message.Commit{Seen: 1})
	successor.hears(&message.Committed{})
	master.dies() // and had been reaped: it is no child
	if sv.old != nil || !sv.oldBy.IsZero() {
		t.Error("the old master is waited for")
	}
	successor.hears(&message.TakeoverComplete{})
	var it message.Item
	successor.hears(&it)
	if it.Name != WorkerEntry(7) {
		t.Errorf("%+v", it)
	}
	successor.hears(&message.End{})
	sv.complete()
	successor.hearsNoMore()
}

func TestCommitIsRefused(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(sv *supervisor){
		"given up":                  func(sv *supervisor) { sv.attempt.phase = attemptKilled },
		"ended":                     func(sv *supervisor) { sv.failAttempt() },
		"its predecessor has died":  func(sv *supervisor) { sv.onEnd(sv.current) },
		"its predecessor is not it": func(sv *supervisor) { sv.current = &masterConn{conn: sv.current.conn} },
		"everything is to stop":     func(sv *supervisor) { sv.stopping.phase = stopDraining },
	} {
		sv, _, successor := reloading(t)
		given(sv)
		successor.says(message.Put{Name: "count"})
		successor.says(message.Commit{Seen: 1})
		successor.hears(&message.Refused{})
		if sv.generation != 1 || sv.current == successor.s || len(sv.registry) != 0 {
			t.Errorf("%s: generation %d, store %v", name, sv.generation, sv.registry)
		}
		successor.s.staged.discard()
	}
}

func TestFailedAttemptLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(sv *supervisor, master, successor actor){
		"it says why and goes": func(sv *supervisor, master, successor actor) {
			successor.says(message.Fail{Error: "port taken"})
			successor.dies()
			master.says(message.UpgradeFailed{Attempt: sv.attempt.id, Error: "successor: gone"})
		},
		"the master hears of it first": func(sv *supervisor, master, successor actor) {
			successor.says(message.Fail{Error: "port taken"})
			master.says(message.UpgradeFailed{Attempt: sv.attempt.id, Error: "successor: gone"})
			successor.dies()
		},
		"its last word is still to be read when the master hears of it": func(sv *supervisor, master, successor actor) {
			master.says(message.UpgradeFailed{Attempt: sv.attempt.id, Error: "successor: gone"})
			successor.says(message.Fail{Error: "port taken"})
			successor.dies()
		},
		"it is late, and then gone": func(sv *supervisor, master, successor actor) {
			sv.attempt.setReason("port taken")
			sv.attemptTimeout()
			successor.dies()
			master.says(message.UpgradeFailed{Attempt: sv.attempt.id, Error: "killed"})
		},
		"it is late, and nobody hears of its end": func(sv *supervisor, _, _ actor) {
			sv.attempt.setReason("port taken")
			sv.attemptTimeout()
			sv.attemptTimeout()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sv, master, successor := reloading(t)
			kept, fresh, sock := hold(t), hold(t), path(t, "sock")
			master.says(message.Put{Name: "listen/kept"}, kept.fd)
			successor.says(message.Put{Name: "listen/fresh", Unlink: made(t, sock)}, fresh.fd)
			successor.says(message.Drop{Name: "listen/kept"})
			fail(sv, master, successor)

			fresh.want(false, "after the failure")
			wantPath(t, sock, false, "after the failure")
			kept.want(true, "after the failure")
			if sv.attempt != nil || sv.generation != 1 || sv.current != master.s || !sv.attemptBy.IsZero() {
				t.Errorf("attempt %+v, generation %d", sv.attempt, sv.generation)
			}
			r := sv.results.All[0]
			if r.OK || r.Seen != 1 || r.Generation != 1 || r.Error != "port taken" {
				t.Errorf("%+v", r)
			}
			if successor.s.phase != phaseGone {
				late, lateSock := hold(t), path(t, "late")
				successor.says(message.Put{Name: "listen/late", Unlink: made(t, lateSock)}, late.fd)
				late.want(false, "said too late")
				wantPath(t, lateSock, false, "said too late")
				successor.says(message.Commit{Seen: 1})
			}
			if sv.generation != 1 {
				t.Error("a failed attempt was committed")
			}
			sv.startReload(time.Now())
			if sv.attempt != nil {
				t.Error("another attempt, that nobody has asked for")
			}
		})
	}
}

func TestUpgradeFailedOfAnotherAttempt(t *testing.T) {
	t.Parallel()
	sv, master, _ := reloading(t)
	master.says(message.UpgradeFailed{Attempt: "of yesterday", Error: "x"})
	if sv.attempt == nil {
		t.Error("the attempt was ended")
	}
}

func TestMasterDiesBeforeCommit(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	sock := path(t, "sock")
	successor.says(message.Put{Name: "listen/fresh", Unlink: made(t, sock)})
	master.dies()
	wantPath(t, sock, false, "after the failure")
	if sv.attempt != nil || sv.current != nil || sv.restarts.at.IsZero() || sv.restarts.at.After(time.Now()) {
		t.Errorf("attempt %v, current %v, restart %v", sv.attempt, sv.current, sv.restarts.at)
	}
	if n := len(sv.results.All); n != 1 || sv.results.All[0].OK || !strings.Contains(sv.results.All[0].Error, "died") {
		t.Errorf("%+v", sv.results.All)
	}
	successor.says(message.Commit{})
	successor.dies()
	if sv.generation != 1 || sv.current != nil {
		t.Error("the successor of a dead master took over")
	}
}

// A master that was dead already when it was asked to reload has begun nothing: the next one is asked.
func TestMasterDiesBeforeTheReload(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	sv.request("test", false)
	sv.startReload(time.Now())
	master.dies()
	if len(sv.results.All) != 0 || sv.attempt != nil || !sv.attemptBy.IsZero() {
		t.Errorf("%+v, %+v", sv.results.All, sv.attempt)
	}
	again := sv.newActor(t, phaseRestart, 1<<29)
	sv.starting = again.s
	again.says(message.Commit{})
	again.says(message.Serving{})
	sv.startReload(time.Now())
	if sv.attempt == nil || sv.attempt.predecessor != again.s || sv.attempt.seen != 1 {
		t.Errorf("%+v", sv.attempt)
	}
}

// TestReloadsDoNotHideHowLongMastersHaveLived: what makes up for a death is the time without another one, not the life
// of a single master, which ends with the next reload.
func TestReloadsDoNotHideHowLongMastersHaveLived(t *testing.T) {
	t.Parallel()
	sv, _, successor := reloading(t)
	sv.restarts.Since = time.Now().Add(-time.Hour)
	sv.restarts.backoff.Failures = restartBackoff.Free + 5
	successor.says(message.Commit{})
	successor.hears(&message.Committed{})
	successor.dies()
	if sv.restarts.backoff.Failures != 1 {
		t.Errorf("after an hour without a death, and one right after a reload: %v deaths count",
			sv.restarts.backoff.Failures)
	}
}

func TestRestartBacksOff(t *testing.T) {
	t.Parallel()
	sv := testSupervisor(t)
	wait := func() time.Duration { return time.Until(sv.restarts.at).Round(50 * time.Millisecond) }
	for i, ms := range []int{0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000} {
		sv.planRestart(0)
		want := time.Duration(ms) * time.Millisecond
		if got := wait(); got > want || got < want-time.Second {
			t.Errorf("crash %d: restart in %v, want %v", i+1, got, want)
		}
	}
	for range 100 {
		sv.planRestart(0)
	}
	if got := wait(); got > restartBackoff.Max {
		t.Errorf("restart in %v", got)
	}
	sv.planRestart(time.Hour)
	if got := wait(); got > 0 {
		t.Errorf("a master that had lived long was not forgiven: restart in %v", got)
	}
}

func TestRestartedMaster(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	master.dies()
	sv.resizeBy(2) // while there is none
	again := sv.newActor(t, phaseRestart, 1<<29)
	sv.starting = &masterConn{pid: again.s.pid, phase: phaseRestart}
	if err := sv.admit(again.s, hello("")); err != nil || again.s.phase != phaseRestart {
		t.Fatal(again.s.phase, err)
	}
	again.says(message.Commit{})
	var c message.Committed
	again.hears(&c)
	if c.Generation != 1 || sv.generation != 1 {
		t.Errorf("a restart used up a generation: %+v", c)
	}
	again.hears(&message.TakeoverComplete{})
	again.hears(&message.End{})
	var r message.Resize
	again.hears(&r)
	if r.Delta != 2 {
		t.Errorf("%+v", r)
	}
	again.hearsNoMore()
}

// A request that the dead master may not have read is said again, one that it has answered is not.
func TestResizeIsSaidUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	sv.resizeBy(1)
	sv.resizeBy(2)
	sv.resizeBy(4)
	master.says(message.Put{Name: EntryCount, Resized: 1})
	master.dies()
	again := sv.newActor(t, phaseRestart, 1<<29)
	sv.starting = again.s
	again.says(message.Commit{})
	again.hears(&message.Committed{})
	again.hears(&message.TakeoverComplete{})
	again.hears(&message.Item{}) // count
	again.hears(&message.End{})
	for _, want := range []message.Resize{{Delta: 2, Seq: 2}, {Delta: 4, Seq: 3}} {
		var r message.Resize
		if again.hears(&r); r != want {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
	again.says(message.Put{Name: EntryCount, Resized: 3})
	again.hearsNoMore()
	if len(sv.held.resizes) != 0 {
		t.Errorf("%+v", sv.held.resizes)
	}
}

// What a superseded master has counted counts, until it has left.
func TestSupersededMasterSpeaks(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	successor.says(message.Commit{Seen: 1})
	master.says(message.Put{Name: EntryStats, Data: "1"})
	master.says(message.Cut{Generation: 1, Requests: 3})
	master.says(message.Put{Name: EntryCount, Data: "2"})
	master.says(message.Put{Name: "config", Data: "3"})
	master.says(message.Leaving{})
	master.says(message.Put{Name: EntryStats, Data: "4"})
	if sv.registry[EntryStats].Data != "1" || len(sv.registry) != 1 || sv.results.All[0].CutRequests != 3 {
		t.Errorf("%+v, %+v", sv.registry, sv.results.All)
	}
}

// TestWorkerOfASupersededMaster: a master that does not know yet that it is superseded may start a worker, and let it
// serve. Its successor gets the worker: nobody but the registry would hold its control socket when the master has
// exited.
func TestWorkerOfASupersededMaster(t *testing.T) {
	t.Parallel()
	for _, reapedFirst := range []bool{false, true} { // before what it has said was read
		sv, master, successor := reloading(t)
		gone := hold(t)
		master.says(message.Put{Name: WorkerEntry(76)}, gone.fd)
		successor.says(message.Commit{Seen: 1})
		successor.hears(&message.Committed{})
		if reapedFirst {
			sv.onReaped(master.s.pid, 0)
			successor.hears(&message.Exited{})
		}
		late := hold(t)
		master.says(message.Put{Name: WorkerEntry(77), Data: "x"}, late.fd)
		master.says(message.Put{Name: WorkerEntry(77), Data: "y"})
		master.says(message.Drop{Name: WorkerEntry(76)})
		late.want(true, "put by one who is superseded")
		gone.want(false, "dropped by one who is superseded")
		if sv.old == nil || sv.current.phase != phaseCommitted {
			t.Errorf("the takeover is complete, and its words not read: %+v", sv.current)
		}
		master.dies()
		successor.hears(&message.TakeoverComplete{})
		var it message.Item
		if successor.hears(&it); it.Name != WorkerEntry(77) || it.Data != "y" || !it.HasFD {
			t.Errorf("%+v", it)
		}
		successor.hears(&message.End{})
	}
}

// The last words of a worker that ends while there is no master are kept for the next one.
func TestWorkerThatDiesWithoutAMaster(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	h := hold(t)
	sv.registry.put(WorkerEntry(77), entry{FD: h.fd, Data: "{}"})
	master.dies()
	sv.onReaped(77, unix.WaitStatus(9))
	h.want(true, "while there is no master")
	again := sv.newActor(t, phaseRestart, 1<<29)
	sv.starting = again.s
	again.says(message.Commit{})
	again.hears(&message.Committed{})
	again.hears(&message.TakeoverComplete{})
	var it message.Item
	p := hear(t, again.Conn, &it)
	if p.Close(); it.Name != WorkerEntry(77) || !it.HasFD {
		t.Errorf("%+v", it)
	}
	again.hears(&message.End{})
	again.says(message.AwaitExit{PID: 77})
	var e message.Exited
	if again.hears(&e); e != (message.Exited{PID: 77, Status: 9, Known: true}) {
		t.Errorf("%+v", e)
	}
	h.want(false, "once the master has asked")
	again.says(message.AwaitExit{PID: 77})
	again.hears(&e)
	again.hearsNoMore()
}

func TestRequestsCoalesce(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	sv.startReload(time.Now()) // one at a time
	for range 3 {
		sv.request("test", false) // while it runs, and after its hello
	}
	successor.says(message.Commit{Seen: sv.attempt.seen})
	master.dies()
	successor.hears(&message.Committed{})
	successor.hears(&message.TakeoverComplete{})
	successor.hears(&message.End{})
	sv.startReload(time.Now())
	if sv.attempt != nil {
		t.Error("a reload before the last generation serves")
	}
	successor.says(message.Serving{Workers: 2})
	sv.startReload(time.Now())
	successor.hears(&message.Reload{})
	if sv.attempt == nil || sv.attempt.seen != 4 || sv.attempt.predecessor != successor.s {
		t.Fatalf("%+v", sv.attempt)
	}
	second := sv.newActor(t, phaseNew, sleeper(t).Process.Pid)
	if err := sv.admit(second.s, hello(sv.attempt.id)); err != nil {
		t.Fatal(err)
	}
	second.says(message.Commit{Seen: 4})
	sv.startReload(time.Now())
	if sv.attempt != nil || sv.served != 4 {
		t.Errorf("a third attempt: %+v", sv.attempt)
	}
}

func TestReloadWaits(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(sv *supervisor){
		"for the old master's end": func(sv *supervisor) { sv.current.phase = phaseCommitted },
		"for a master":             func(sv *supervisor) { sv.current = nil },
		"for ever, when stopping":  func(sv *supervisor) { sv.stopping.phase = stopDraining },
		"for somebody to ask":      func(sv *supervisor) { sv.served = sv.requests },
	} {
		sv, master := serving(t)
		sv.request("test", false)
		given(sv)
		sv.startReload(time.Now())
		if sv.attempt != nil {
			t.Errorf("%s: a reload was started", name)
		}
		master.hearsNoMore()
	}
}

// TestRequestBeforeTheHello: who replaces the binary and asks for a reload gets that binary, and not the one that a
// successor had executed before. Without another binary one reload serves both.
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
		sv, master := serving(t)
		sv.request("test", false)
		sv.startReload(time.Now())
		master.hears(&message.Reload{})
		sv.request("test", false)
		successor := sv.newActor(t, phaseNew, sleeper(t).Process.Pid)
		sv.args[0] = tt.binary(successor.s.pid)
		if err := sv.admit(successor.s, hello(sv.attempt.id)); err != nil {
			t.Fatal(err)
		}
		sv.welcome(successor.s)
		var w message.Welcome
		successor.hears(&w)
		if w.Seen != tt.seen || sv.attempt.seen != tt.seen {
			t.Errorf("%s: seen %d and %d, want %d", name, w.Seen, sv.attempt.seen, tt.seen)
		}
	}
}

func TestSeenAtHello(t *testing.T) {
	t.Parallel()
	one, other, none := reexec.FileID{Ino: 2}, reexec.FileID{Ino: 3}, reexec.FileID{}
	for _, tt := range []struct {
		runs, there reexec.FileID
		want        int64
	}{{one, one, 9}, {one, other, 4}, {one, none, 4}, {none, one, 4}, {none, none, 4}} {
		if got := seenAtHello(4, 9, tt.runs, tt.there); got != tt.want {
			t.Errorf("runs %v, there is %v: %d, want %d", tt.runs, tt.there, got, tt.want)
		}
	}
}

func TestReapedWorkerLeavesTheRegistry(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	h := hold(t)
	sv.registry.put(WorkerEntry(77), entry{FD: h.fd})
	sv.onReaped(77, unix.WaitStatus(7<<8))
	h.want(false, "reaped")
	var e message.Exited
	master.hears(&e)
	if e != (message.Exited{PID: 77, Status: 7 << 8, Known: true}) {
		t.Errorf("%+v", e)
	}
}

func TestAwaitExit(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	alive := sleeper(t).Process.Pid
	master.says(message.AwaitExit{PID: alive}) // answered when it is reaped
	sv.registry.put(WorkerEntry(1<<30), entry{FD: -1})
	master.says(message.AwaitExit{PID: 1 << 30})
	var e message.Exited
	master.hears(&e)
	if e != (message.Exited{PID: 1 << 30}) || len(sv.registry) != 0 {
		t.Errorf("%+v, %v", e, sv.registry)
	}
	master.hearsNoMore()
}

func TestKillIsForChildrenOnly(t *testing.T) {
	t.Parallel()
	_, master := serving(t)
	child := sleeper(t)
	parent, grandchild := family(t)
	master.says(message.Kill{PID: child.Process.Pid})
	master.says(message.Kill{PID: grandchild})
	if !killed(child) {
		t.Error("a child was not killed")
	}
	if zombie(grandchild) || !running(parent) {
		t.Error("a process that is no child was killed")
	}
}

func TestFirstMasterFails(t *testing.T) {
	for status, code := range map[unix.WaitStatus]int{100 << 8: 100, 111 << 8: 111, 9: exitSystem, 0: exitSystem} {
		sv := testSupervisor(t)
		sv.starting = &masterConn{pid: 1 << 30, phase: phaseFirst}
		sv.onReaped(1<<30, status)
		if sv.stopping.exit != code || !sv.finished() {
			t.Errorf("status %#x: exit code %d, want %d, finished %v", status, sv.stopping.exit, code, sv.finished())
		}
	}
}

func TestStop(t *testing.T) {
	sv, master, successor := reloading(t)
	ln := hold(t)
	sv.registry.put("listen/a", entry{FD: ln.fd})
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	sv.registry.put(WorkerEntry(77), entry{FD: ours})
	w, err := seqpacket.New(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	before := int64(monotime.Now())
	sv.stop("test", false)

	ln.want(false, "at a stop")
	var toWorker wire.Drain
	var toMaster message.Stop
	hear(t, w, &toWorker)
	master.hears(&toMaster)
	end := before + int64(defaultStop)
	if toWorker.Deadline != toMaster.Deadline || !toWorker.Stop || toWorker.Deadline <= before ||
		toWorker.Deadline >= end {
		t.Errorf("%+v, %+v, the stop ends at %d", toWorker, toMaster, end)
	}
	successor.says(message.Commit{})
	if sv.current != master.s || sv.stopping.killAt.IsZero() || (sv.stopping.phase == stopKilling) {
		t.Error("a successor took over in a stop, or somebody was killed")
	}
}

func TestStopLimit(t *testing.T) {
	t.Parallel()
	sv := testSupervisor(t)
	if sv.stopLimit(false) != defaultStop || sv.stopLimit(true) != defaultDrain {
		t.Error("not the defaults")
	}
	sv.lastTimeouts = message.Preparing{StopTimeout: int64(time.Second), DrainTimeout: int64(time.Minute)}
	if sv.stopLimit(false) != time.Second || sv.stopLimit(true) != time.Minute {
		t.Error("not those of the last master")
	}
	sv.current = &masterConn{timeouts: message.Preparing{StopTimeout: int64(time.Hour), DrainTimeout: 1}}
	if sv.stopLimit(false) != time.Hour || sv.stopLimit(true) != 1 {
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
	sv, master := serving(t)
	h := hold(t)
	p := seqpacket.Packet{Frame: wire.Frame{V: 9, T: "dance"}, FDs: []int{h.fd}}
	sv.onPacket(packetEvent{from: master.s, packet: p})
	h.want(false, "with a message of a newer release")
	master.hearsNoMore()
}

func TestTheFirstReasonCounts(t *testing.T) {
	t.Parallel()
	var a attempt
	a.setReason("first")
	a.setReason("second")
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
func TestRegistration(t *testing.T) {
	t.Parallel()
	sv := testSupervisor(t)
	sv.onHello(seqpacket.Packet{Frame: hello("x")}) // without a descriptor
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := seqpacket.New(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	sv.onHello(seqpacket.Packet{Frame: hello("x"), FDs: []int{theirs}})
	var r message.Refused
	hear(t, c, &r)
	if _, err := c.Recv(); err == nil || !strings.Contains(r.Error, `"x"`) {
		t.Errorf("%+v, %v", r, err)
	}

	ours, theirs, err = seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	sv.starting = &masterConn{pid: os.Getpid(), phase: phaseFirst}
	first, err := seqpacket.New(ours)
	if err != nil {
		t.Fatal(err)
	}
	sv.onHello(seqpacket.Packet{Frame: hello(""), FDs: []int{theirs}})
	hear(t, first, &message.Welcome{})
	hear(t, first, &message.End{})
	if err := errors.Join(first.Post(message.Commit{Seen: 1}), first.Close()); err != nil {
		t.Fatal(err)
	}
	if ev := <-sv.events.packets; ev.err != nil || ev.packet.Frame.T != (message.Commit{}).Kind() ||
		ev.from.phase != phaseFirst {
		t.Errorf("%+v", ev)
	}
	if ev := <-sv.events.packets; ev.err == nil {
		t.Errorf("%+v", ev)
	}
}

// The kernel may take long for the end of a process. Its workers need not wait for it, but the next reload has to.
func TestLeavingMasterIsInNobodysWay(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	successor.says(message.Commit{Seen: 1})
	successor.hears(&message.Committed{})
	master.says(message.Leaving{})
	successor.hears(&message.TakeoverComplete{})
	successor.hears(&message.End{})
	successor.says(message.Serving{Workers: 2})
	sv.request("test", false)
	sv.startReload(time.Now())
	if sv.attempt != nil {
		t.Error("a reload was started while the master before the last was there")
	}
	master.dies()
	sv.startReload(time.Now())
	successor.hears(&message.Reload{})
	successor.hearsNoMore()
}
