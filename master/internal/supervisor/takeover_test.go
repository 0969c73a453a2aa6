package supervisor

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/seqpacket"
)

var phaseNames = map[phase]string{
	phaseNew: "door", phaseFirst: "first", phaseRestart: "restart", phaseSuccessor: "successor", phaseCommitted: "committed",
	phaseCurrent: "current", phaseSuperseded: "superseded", phaseLeaving: "left", phaseFailed: "failed", phaseGone: "gone",
}

// cell is a conversation in a phase that it has come to as a real one does, and the other master, if there is one.
type cell struct {
	sv      *supervisor
	a       actor
	process *exec.Cmd
	other   *actor
	now     phase
}

func newCell(t *testing.T, p phase) *cell {
	t.Helper()
	c := &cell{sv: testSupervisor(t), process: sleeper(t), now: p}
	switch p {
	case phaseNew:
		c.a = c.sv.newActor(t, phaseNew, c.process.Process.Pid)
	case phaseFirst, phaseRestart:
		c.start(t, p)
	case phaseSuccessor:
		c.succeed(t)
	case phaseCommitted:
		c.succeed(t)
		c.a.says(message.Commit{Seen: 1})
	case phaseCurrent:
		c.start(t, phaseFirst)
		c.a.says(message.Commit{})
	case phaseSuperseded:
		c.supersede(t)
	case phaseLeaving:
		c.supersede(t)
		c.a.says(message.Leaving{})
	case phaseFailed:
		c.succeed(t)
		c.sv.failAttempt()
	case phaseGone:
		c.succeed(t)
		c.a.dies()
	}
	if c.a.s.phase != p {
		t.Fatalf("the phase is %s, and should be %s", phaseNames[c.a.s.phase], phaseNames[p])
	}
	c.heard(c.a)
	if c.other != nil {
		c.heard(*c.other)
	}
	return c
}

// start lets the supervisor start the process as a master.
func (c *cell) start(t *testing.T, p phase) {
	t.Helper()
	if p == phaseRestart {
		c.sv.generation = 1
	}
	c.sv.starting = &masterConn{pid: c.process.Process.Pid, pidfd: -1, phase: p}
	c.a = c.join(t, c.process.Process.Pid)
}

// succeed makes the process the successor of the other one.
func (c *cell) succeed(t *testing.T) {
	t.Helper()
	sv, master := serving(t)
	c.sv, c.other = sv, &master
	c.reload(master)
	c.a = c.join(t, c.process.Process.Pid)
}

// supersede makes the other one the master, in the place of the process.
func (c *cell) supersede(t *testing.T) {
	t.Helper()
	c.start(t, phaseFirst)
	c.a.says(message.Commit{})
	c.a.says(message.Serving{})
	c.reload(c.a)
	other := c.join(t, 1<<30)
	other.says(message.Commit{Seen: 1})
	c.other = &other
}

func (c *cell) reload(master actor) {
	c.sv.request("test", false)
	c.sv.startReload(time.Now())
	master.says(message.Upgrading{Attempt: c.sv.attempt.id})
}

func (c *cell) attempt() string {
	if c.sv.attempt == nil {
		return ""
	}
	return c.sv.attempt.id
}

// join is a hello that is welcome.
func (c *cell) join(t *testing.T, pid int) actor {
	t.Helper()
	a := c.sv.newActor(t, phaseNew, pid)
	if err := c.sv.admit(a.s, hello(c.attempt())); err != nil {
		t.Fatal(err)
	}
	c.sv.live++
	return a
}

// heard lists what an actor was told, up to a mark.
func (c *cell) heard(a actor) (all []string) {
	a.t.Helper()
	mark := message.StatusRequest{}
	if a.s.conn.Post(mark) != nil {
		return nil // it has gone
	}
	for {
		p, err := a.Recv()
		if err != nil {
			return all
		}
		kind := p.Frame.T
		p.Close()
		if kind == mark.Kind() {
			return all
		}
		if !slices.Contains([]string{(message.Item{}).Kind(), (message.End{}).Kind(), (message.Exited{}).Kind()}, kind) {
			all = append(all, kind)
		}
	}
}

// outcome says what has changed.
func (c *cell) outcome() string {
	var all []string
	if c.a.s.phase != c.now {
		all = append(all, phaseNames[c.a.s.phase])
	}
	for _, kind := range c.heard(c.a) {
		all = append(all, "hears "+kind)
	}
	if c.other != nil {
		for _, kind := range c.heard(*c.other) {
			all = append(all, "other hears "+kind)
		}
	}
	if c.sv.attempt != nil && c.sv.attempt.phase == attemptKilled && c.now != phaseGone {
		all = append(all, "attempt to fail")
	}
	if n := len(c.sv.results.All); n > 0 && !c.sv.results.All[n-1].OK && c.now != phaseFailed {
		all = append(all, "attempt failed")
	}
	if !c.sv.restarts.at.IsZero() && c.now != phaseRestart || c.now == phaseRestart && c.sv.starting == nil && c.sv.current == nil {
		all = append(all, "restart")
	}
	if c.a.s.exitStatus != "" {
		all = append(all, "noted")
	}
	if c.sv.stopping.begun() {
		all = append(all, fmt.Sprintf("exit %d", c.sv.stopping.exit))
	}
	return strings.Join(all, ", ")
}

// TestTakeoverTable walks all cells of the table: what each event does in each phase. One of them kills all children of
// this process, so nothing runs beside it.
func TestTakeoverTable(t *testing.T) {
	events := map[string]func(c *cell){
		"hello": func(c *cell) {
			if again := (&masterConn{pid: c.a.s.pid, pidfd: -1}); c.sv.admit(again, hello(c.attempt())) == nil {
				c.a.t.Error("a second hello is welcome")
			}
		},
		"COMMIT":   func(c *cell) { c.a.says(message.Commit{Seen: 1}) },
		"deadline": func(c *cell) { c.sv.tooLate(c.a.s) },
		"end": func(c *cell) {
			if c.now != phaseGone {
				c.a.dies()
			}
		},
		"reaped": func(c *cell) { c.sv.onReaped(c.a.s.pid, unix.WaitStatus(3<<8)) },
		"Left":   func(c *cell) { c.a.says(message.Leaving{}) },
	}
	const refused = "hears refused"
	kills := map[phase]bool{phaseRestart: true, phaseSuccessor: true, phaseSuperseded: true, phaseLeaving: true} // at the deadline
	cells := map[phase]map[string]string{
		phaseNew: {},
		phaseFirst: {
			"COMMIT": "current, hears committed, hears takeover-complete", "reaped": "exit 3",
		},
		phaseRestart: {
			"COMMIT": "current, hears committed, hears takeover-complete", "reaped": "restart",
		},
		phaseSuccessor: {
			"COMMIT": "committed, hears committed, other hears superseded", "deadline": "attempt to fail", "end": "gone, attempt to fail",
		},
		phaseCommitted: {"COMMIT": refused, "end": "gone, restart", "reaped": "noted"},
		phaseCurrent:   {"COMMIT": refused, "end": "gone, restart", "reaped": "noted"},
		phaseSuperseded: {
			"reaped": "gone, other hears takeover-complete", "Left": "left, other hears takeover-complete",
		},
		phaseLeaving: {"reaped": "gone"},
		phaseFailed:  {"COMMIT": refused, "end": "gone"},
		phaseGone:    {},
	}
	for p := phaseNew; p <= phaseGone; p++ {
		if cells[p] == nil {
			t.Fatalf("no row of %d", p)
		}
		for name, happens := range events {
			t.Run(phaseNames[p]+" "+name, func(t *testing.T) {
				c := newCell(t, p)
				happens(c)
				if got := c.outcome(); got != cells[p][name] {
					t.Errorf("%q, want %q", got, cells[p][name])
				}
				if name == "deadline" && kills[p] {
					if !killed(c.process) {
						t.Error("it was not killed")
					}
				} else if name != "reaped" && !(name == "end" && (p == phaseCommitted || p == phaseCurrent)) && !running(c.process) {
					t.Error("it was killed")
				}
			})
		}
	}
}

// A superseded master whose conversation has ended, and that is no child any more, is not waited for.
func TestSupersededThatWasReapedBefore(t *testing.T) {
	t.Parallel()
	c := newCell(t, phaseSuperseded)
	_ = c.process.Process.Kill()
	_ = c.process.Wait()
	c.a.dies()
	if got := c.outcome(); got != "gone, other hears takeover-complete" || c.sv.old != nil {
		t.Errorf("%q, %+v", got, c.sv.old)
	}
}

// A successor may say hello before its master says that it starts one, and that master may die in between: the next one
// makes the attempt, and this successor's does not count.
func TestMasterDiesBeforeItSaysUpgrading(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	sv.attempt.phase = attemptAsked // the hello has come first
	successor.says(message.Put{Name: "count"})
	master.dies()
	if sv.attempt != nil || len(sv.results.All) != 0 || successor.s.phase != phaseFailed {
		t.Errorf("%+v, %+v, %d", sv.attempt, sv.results.All, successor.s.phase)
	}
	successor.says(message.Commit{Seen: 1})
	successor.hears(&message.Refused{})
	h := hold(t)
	sv.onPacket(packetEvent{from: successor.s, packet: &seqpacket.Packet{Frame: frame(message.Put{Name: "late"}), FDs: []int{h.fd}}})
	h.want(false, "said too late")
}
