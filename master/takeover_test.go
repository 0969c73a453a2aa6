package master

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"baton/master/internal/message"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

var phaseNames = map[phase]string{
	phaseNone: "-", phasePreparing: "preparing", phaseAsking: "asking", phaseCommitted: "committed",
	phaseLeaving: "leaving",
	phaseCurrent: "current", phaseStopping: "stopping", phaseOrphaned: "orphaned", phaseStopped: "stopped",
	phaseSuperseded: "superseded", phaseFailed: "failed",
}

var eventNames = map[event]string{
	eventReady: "READY", eventCommitted: "Committed", eventRefused: "Refused", eventComplete: "Complete",
	eventSuperseded: "Superseded", eventStop: "Stop", eventHungUp: "hung up", eventUnready: "not ready",
	eventTrouble: "trouble", eventEmpty: "no worker", eventRequest: "request",
}

// TestTakeoverIsDocumented: the table in doc.go has every phase, every event, and what the code has in each cell.
func TestTakeoverIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range takeoverRows() {
		if !strings.Contains(string(doc), "\n//\t"+row+"\n") {
			t.Errorf("doc.go does not have\n//\t%s", row)
		}
	}
}

// takeoverRows is the table as text, a row for each event and a column for each phase that does not exit.
func takeoverRows() []string {
	head := fmt.Sprintf("%-12s", "")
	for p := phasePreparing; p < phaseStopped; p++ {
		head += fmt.Sprintf("%-12s", phaseNames[p])
	}
	rows := []string{strings.TrimRight(head, " ")}
	for e := eventReady; e <= eventRequest; e++ {
		row := fmt.Sprintf("%-12s", eventNames[e])
		for p := phasePreparing; p < phaseStopped; p++ {
			row += fmt.Sprintf("%-12s", phaseNames[takeover[p][e]])
		}
		rows = append(rows, strings.TrimRight(row, " "))
	}
	return rows
}

// TestTakeoverEnds: what exits does nothing else, and what has taken over has no way back.
func TestTakeoverEnds(t *testing.T) {
	t.Parallel()
	for p := phasePreparing; p <= phaseFailed; p++ {
		for e := eventReady; e <= eventRequest; e++ {
			next := takeover[p][e]
			switch {
			case next == phaseNone:
			case p.isOver():
				t.Errorf("%s: %s leads to %s", phaseNames[p], eventNames[e], phaseNames[next])
			case p.isMaster() && !next.isMaster(), p.isAlone() && !next.isAlone(), p.isStopping() && !next.isStopping():
				t.Errorf("%s: %s leads back to %s", phaseNames[p], eventNames[e], phaseNames[next])
			case !p.isMaster() && next.isMaster() && e != eventCommitted:
				t.Errorf("%s: %s makes it the master", phaseNames[p], eventNames[e])
			}
		}
	}
}

// reach brings a virtual master to a phase.
func (v *virtual) reach(p phase) {
	v.t.Helper()
	switch p {
	case phasePreparing:
	case phaseAsking:
		v.ready()
	case phaseCommitted:
		v.reach(phaseAsking)
		v.say(message.Committed{Generation: 5})
	case phaseLeaving:
		v.reach(phaseCommitted)
		v.cause(eventStop)
	case phaseCurrent:
		v.reach(phaseCommitted)
		v.cause(eventComplete)
	case phaseStopping:
		v.reach(phaseCurrent)
		v.cause(eventStop)
	case phaseOrphaned:
		v.reach(phaseCurrent)
		v.cause(eventHungUp)
	case phaseNone, phaseStopped, phaseSuperseded, phaseFailed:
		v.t.Fatal("nothing happens in it")
	}
	if v.ended(); v.m.phase != p {
		v.t.Fatalf("it is %s, not %s", phaseNames[v.m.phase], phaseNames[p])
	}
}

// cause has an event happen, as it happens outside of a test.
func (v *virtual) cause(e event) {
	v.t.Helper()
	switch e {
	case eventReady:
		v.ready()
	case eventCommitted:
		v.say(message.Committed{Generation: 5})
	case eventRefused:
		v.say(message.Refused{Error: "because"})
	case eventComplete:
		v.say(message.TakeoverComplete{}, message.End{})
	case eventSuperseded:
		v.say(message.Superseded{})
	case eventStop:
		v.say(message.Stop{Deadline: int64(monotime.Now().Add(time.Second))})
	case eventHungUp:
		_ = v.supervisor.Close()
	case eventUnready:
		v.living()[0].dies(3 << 8)
	case eventTrouble:
		v.say(cut{})
	case eventEmpty:
		for _, w := range v.living() {
			w.dies(0)
		}
	case eventRequest:
		v.say(message.Reload{Attempt: "5"})
	}
}

// happens reports whether an event can happen in a phase at all, to a process that is still there afterwards.
func happens(p phase, e event) bool {
	switch e {
	case eventReady, eventEmpty:
		return p > phasePreparing || e == eventReady // a worker that exits is not ready
	case eventTrouble:
		return !p.isMaster() // it ends as if it had crashed
	case eventCommitted, eventRefused, eventComplete, eventSuperseded, eventStop, eventHungUp, eventRequest:
		return p != phaseOrphaned // there is nobody to say it
	case eventUnready:
	}
	return true
}

// TestTakeover walks every cell of the table.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for p := phasePreparing; p < phaseStopped; p++ {
		for e := eventReady; e <= eventRequest; e++ {
			if !happens(p, e) {
				continue
			}
			t.Run(phaseNames[p]+", "+eventNames[e], func(t *testing.T) {
				t.Parallel()
				inVirtualTime(t, message.RoleSuccessor, Config{}, func(v *virtual) {
					v.reach(p)
					v.supervisor.heard()
					v.cause(e)
					v.wantPhase(p, e)
				})
			})
		}
	}
}

func (v *virtual) wantPhase(p phase, e event) {
	v.t.Helper()
	want := takeover[p][e]
	if want == phaseNone {
		want = p
	}
	if v.ended() != want.isOver() || v.m.phase != want {
		v.t.Errorf("it is %s, want %s; ended %t", phaseNames[v.m.phase], phaseNames[want], v.ended())
	}
	said := map[string]bool{}
	for _, f := range v.supervisor.heard() {
		said[f.T] = true
	}
	for _, tt := range []struct {
		says wire.Message
		want bool
	}{
		{message.Commit{}, want == phaseAsking && p != want},
		{message.Leaving{}, want == phaseSuperseded},
		{message.Fail{}, want == phaseFailed && e != eventHungUp},
		{message.Upgrading{}, e == eventRequest && takeover[p][e] != phaseNone},
		{message.UpgradeFailed{}, e == eventRequest && takeover[p][e] == phaseNone},
		{message.Serving{}, want == phaseCommitted && p != want},
	} {
		if said[tt.says.Kind()] != tt.want {
			v.t.Errorf("it says %q: %t, want %t", tt.says.Kind(), said[tt.says.Kind()], tt.want)
		}
	}
	if (v.err != nil) != (want == phaseFailed) {
		v.t.Errorf("exits with %v", v.err)
	}
}
