package supervisor

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/seqpacket"
)

var phaseNames = map[phase]string{
	phaseNew: "new", phaseFirst: "first", phaseRestart: "restart", phaseSuccessor: "successor",
	phaseCommitted: "committed", phaseCurrent: "current", phaseSuperseded: "superseded", phaseLeaving: "leaving",
	phaseFailed: "failed", phaseGone: "gone",
}

// cell is a conversation in a phase that it has come to as a real one does, and the other master, if there is one.
type cell struct {
	*world
	a, other *played
	phase    phase
	starts   int
}

// in brings a master into a phase.
func (w *world) in(p phase) *cell {
	c := &cell{world: w, phase: p}
	switch p {
	case phaseNew:
		c.a = w.join(w.fork(), "of nobody") // it is refused
	case phaseFirst:
		c.a = w.startedMaster()
	case phaseRestart:
		w.served().die(unix.WaitStatus(unix.SIGKILL))
		c.a = w.startedMaster()
	case phaseSuccessor, phaseCommitted, phaseFailed, phaseGone:
		c.other = w.served()
		c.a = w.succeeded(c.other)
		switch p {
		case phaseCommitted:
			c.a.say(message.Commit{Seen: 1})
		case phaseFailed:
			w.on(w.failAttempt)
		case phaseGone:
			c.a.die(0)
		default:
		}
	case phaseCurrent:
		c.a = w.served()
	case phaseSuperseded, phaseLeaving:
		c.a = w.served()
		c.other = w.succeeded(c.a)
		c.other.say(message.Commit{Seen: 1})
		if p == phaseLeaving {
			c.a.say(message.Leaving{})
		}
	}
	if c.a.c.phase != p {
		w.t.Fatalf("the phase is %s, and should be %s", phaseNames[c.a.c.phase], phaseNames[p])
	}
	c.a.heard()
	if c.other != nil {
		c.other.heard()
	}
	c.starts = len(w.starts)
	return c
}

// outcome says what has changed.
func (c *cell) outcome() string {
	var all []string
	note := func(is bool, what string) {
		if is {
			all = append(all, what)
		}
	}
	note(c.a.c.phase != c.phase, phaseNames[c.a.c.phase])
	for _, kind := range c.a.heard() {
		note(true, "hears "+kind)
	}
	if c.other != nil {
		for _, kind := range c.other.heard() {
			note(true, "other hears "+kind)
		}
	}
	note(c.killedAt(c.a) != "", "killed")
	n := len(c.results.All)
	note(n > 0 && !c.results.All[n-1].OK && c.phase != phaseFailed && c.phase != phaseGone, "attempt failed")
	note(c.attempt != nil && c.attempt.phase == attemptKilled && c.phase != phaseGone, "attempt will fail")
	note(len(c.world.starts) > c.starts, "restart")
	note(c.a.c.exitStatus != "", "noted")
	note(c.stopping.begun(), fmt.Sprintf("exit %d", c.stopping.exit))
	return strings.Join(all, ", ")
}

// TestTakeoverTable walks all cells of the table: what each event does in each phase. The deadline is a minute without
// an event, in virtual time.
func TestTakeoverTable(t *testing.T) {
	t.Parallel()
	events := map[string]func(c *cell){
		"hello": func(c *cell) {
			attempt := ""
			if c.attempt != nil {
				attempt = c.attempt.id
			}
			if again := c.join(c.a.pid, attempt); again.c.phase != phaseNew {
				c.t.Error("a second hello is welcome")
			}
		},
		"COMMIT":   func(c *cell) { c.a.say(message.Commit{Seen: 1}) },
		"deadline": func(c *cell) { c.pass(time.Minute) },
		"end":      func(c *cell) { c.a.hangUp() },
		"reaped":   func(c *cell) { c.exit(c.a.pid, 3<<8) },
		"Leaving":  func(c *cell) { c.a.say(message.Leaving{}) },
	}
	const refused, complete = "hears refused", "hears committed, hears takeover-complete"
	cells := map[phase]map[string]string{
		phaseNew:     {},
		phaseFirst:   {"COMMIT": "current, " + complete, "reaped": "exit 3"},
		phaseRestart: {"COMMIT": "current, " + complete, "deadline": "killed, restart", "reaped": "restart"},
		phaseSuccessor: {
			"COMMIT":   "committed, hears committed, other hears superseded",
			"deadline": "gone, killed, attempt failed", "end": "gone, attempt will fail",
		},
		phaseCommitted: {
			"COMMIT": refused, "deadline": "current, hears takeover-complete",
			"end": "gone, killed, restart", "reaped": "noted",
		},
		phaseCurrent: {"COMMIT": refused, "end": "gone, killed, restart", "reaped": "noted"},
		phaseSuperseded: {
			"deadline": "gone, other hears takeover-complete, killed",
			"end":      "leaving, other hears takeover-complete", "Leaving": "leaving, other hears takeover-complete",
		},
		phaseLeaving: {"deadline": "gone, killed", "reaped": "gone"},
		phaseFailed:  {"COMMIT": refused, "end": "gone"},
		phaseGone:    {},
	}
	for p := phaseNew; p <= phaseGone; p++ {
		if cells[p] == nil {
			t.Fatalf("no row of %d", p)
		}
		for name, happens := range events {
			t.Run(phaseNames[p]+" "+name, func(t *testing.T) {
				t.Parallel()
				inWorld(t, func(w *world) {
					c := w.in(p)
					happens(c)
					synctest.Wait()
					if got := c.outcome(); got != cells[p][name] {
						t.Errorf("%q, want %q", got, cells[p][name])
					}
				})
			})
		}
	}
}

// A superseded master whose conversation has ended, and that was reaped before, is not waited for.
func TestSupersededThatWasReapedBefore(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		successor := w.succeeded(master)
		w.exit(master.pid, 0)
		synctest.Wait()
		successor.say(message.Commit{Seen: 1})
		master.hangUp()
		synctest.Wait()
		successor.wantHeard("committed", "takeover-complete")
		if w.old != nil || w.current != successor.c {
			t.Errorf("%+v, %+v", w.old, w.current)
		}
	})
}

// A successor may say hello before its master says that it starts one, and that master may die in between: the next one
// makes the attempt, and this successor's does not count.
func TestMasterDiesBeforeItSaysUpgrading(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		w.send(syscall.SIGHUP)
		successor := w.join(w.fork(), w.attempt.id)
		successor.say(message.Put{Name: "count"})
		master.die(unix.WaitStatus(unix.SIGKILL))
		if w.attempt != nil || len(w.results.All) != 0 || successor.c.phase != phaseFailed {
			t.Errorf("%+v, %+v, %d", w.attempt, w.results, successor.c.phase)
		}
		successor.heard()
		successor.say(message.Commit{Seen: 1})
		successor.wantHeard("refused")
		h := hold(t)
		successor.says <- seqpacket.Packet{Frame: frame(message.Put{Name: "late"}), FDs: []int{h.fd}}
		synctest.Wait()
		h.want(false, "said too late")
	})
}
