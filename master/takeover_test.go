package master

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

var phaseNames = map[phase]string{
	phaseNone: "-", phasePreparing: "preparing", phaseAsking: "asking", phaseCommitted: "committed", phaseLeaving: "leaving",
	phaseCurrent: "current", phaseStopping: "stopping", phaseOrphaned: "orphaned", phaseStopped: "stopped",
	phaseSuperseded: "superseded", phaseFailed: "failed",
}

var eventNames = map[event]string{
	eventReady: "READY", eventCommitted: "Committed", eventRefused: "Refused", eventAlone: "Alone",
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
