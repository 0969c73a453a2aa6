package master

import (
	"slices"
	"testing"

	"baton/master/internal/message"
	"baton/master/internal/plan"
)

// masterOf is one of generation 5, that has workers and nobody to talk to.
func masterOf(p phase, slots int, workers ...*proc) *master {
	m := newMaster(Options{}, nil, nowhere)
	m.gen, m.phase, m.desired = 5, p, slots
	for _, w := range workers {
		m.procs[w.PID] = w
	}
	return m
}

// TestAdopted: what a master makes of another one's worker.
func TestAdopted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		r    message.WorkerRecord
		want plan.Worker
	}{
		{
			"of this generation",
			message.WorkerRecord{Generation: 5, Slot: 1, Started: 77},
			plan.Worker{State: plan.Ready, Generation: 5, Slot: 1, Started: 77},
		},
		{
			"a replacement",
			message.WorkerRecord{Generation: 5, Started: 77, Replaces: 3},
			plan.Worker{State: plan.Ready, Generation: 5, Started: 77, Replaces: 3},
		},
		{
			"of an older one",
			message.WorkerRecord{Generation: 4, Started: 66},
			plan.Worker{State: plan.Serving, Generation: 4, Started: 66},
		},
		{"that drains", message.WorkerRecord{Generation: 5, Started: 77, Draining: true, Deadline: 99}, plan.Worker{
			State: plan.Draining, Generation: 5, Started: 77, Deadline: 99,
		}},
	} {
		tt.want.PID = 9
		if got := adopted(9, tt.r, 5); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestGone: who ends unasked has crashed; in a slot of the running generation, the next one may have to wait for that.
func TestGone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		p       plan.Worker
		phase   phase
		crashes int64
		inSlot  int
		failed  string
	}{
		{"serving", plan.Worker{Generation: 5, Slot: 1, State: plan.Serving}, phaseCommitted, 1, 1, ""},
		{"starting", plan.Worker{Generation: 5, Slot: 1, State: plan.Starting}, phaseCommitted, 1, 1, ""},
		{"of an old generation", plan.Worker{Generation: 4, Slot: 1, State: plan.Serving}, phaseCommitted, 1, 0, ""},
		{"draining", plan.Worker{Generation: 5, Slot: 1, State: plan.Draining}, phaseCommitted, 0, 0, ""},
		{"at a stop", plan.Worker{Generation: 5, Slot: 1, State: plan.Serving}, phaseLeaving, 1, 0, ""},
		{
			"before COMMIT",
			plan.Worker{Generation: 5, Slot: 1, PID: 50},
			phasePreparing, 0, 0,
			"worker 1 (pid 50): ended before it was ready: late, exit status 3",
		},
	} {
		p := &proc{Worker: tt.p, why: "late", status: 3 << 8}
		m := masterOf(tt.phase, 2, p)
		m.gone(p)
		m.gone(p) // that was all
		if m.counts.Crashes != tt.crashes || m.crashes.Count(1) != tt.inSlot || len(m.procs) != 0 {
			t.Errorf("%s: %d crashes, %d of the slot", tt.name, m.counts.Crashes, m.crashes.Count(1))
		}
		if m.cause == nil && tt.failed != "" || m.cause != nil && m.cause.Error() != tt.failed {
			t.Errorf("%s: failed with %v, want %q", tt.name, m.cause, tt.failed)
		}
	}
}

// TestGoneAfterADrain: nobody here has told the worker to drain. A master that has died may have, if the generation is
// an older one; else baton is stopping.
func TestGoneAfterADrain(t *testing.T) {
	t.Parallel()
	for gen, stops := range map[int]bool{4: false, 5: true} {
		p := &proc{Worker: plan.Worker{PID: 50, Generation: gen, State: plan.Serving}, bye: true}
		m := masterOf(phaseCommitted, 2, p)
		m.gone(p)
		if m.phase.isStopping() != stops || m.counts.Crashes != 0 || len(m.procs) != 0 {
			t.Errorf("generation %d: stopping %t, %d crashes", gen, m.phase.isStopping(), m.counts.Crashes)
		}
	}
}

func TestServingSlots(t *testing.T) {
	t.Parallel()
	serving := func(slot int) *proc {
		return &proc{Worker: plan.Worker{Generation: 5, Slot: slot, State: plan.Serving}}
	}
	for _, tt := range []struct {
		name    string
		procs   []*proc
		crashed []int
		want    int
	}{
		{"all", []*proc{serving(0), serving(1), serving(2)}, nil, 3},
		{"the last is still to come", []*proc{serving(0), serving(1)}, nil, 2},
		{"one has crashed: others accept for it", []*proc{serving(0), serving(2)}, []int{1}, 3},
		{
			"one of another generation",
			[]*proc{serving(0), {Worker: plan.Worker{Generation: 4, Slot: 1, State: plan.Serving}}},
			nil, 1,
		},
		{
			"one that drains",
			[]*proc{serving(0), {Worker: plan.Worker{Generation: 5, Slot: 1, State: plan.Draining}}},
			nil, 1,
		},
	} {
		for pid, p := range tt.procs {
			p.PID = pid
		}
		m := masterOf(phaseCurrent, 3, tt.procs...)
		for _, slot := range tt.crashed {
			m.crashes.Add(slot, 3, 0, "", now)
		}
		if got, empty := m.servingSlots(5, 3, m.crashes); got != tt.want || !slices.Equal(empty, tt.crashed) {
			t.Errorf("%s: %d, want %d; empty after a crash: %v", tt.name, got, tt.want, empty)
		}
	}
}
