package plan

import (
	"testing"
	"time"

	"baton/master/internal/monotime"
)

func TestPlanRecycling(t *testing.T) {
	t.Parallel()
	const hour = monotime.Time(time.Hour)
	var (
		old      = Worker{PID: 50, Generation: 5, State: Serving, Started: now - hour}
		due      = Worker{PID: 51, Generation: 5, State: Serving, Started: now - hour, OverRequests: now - sec}
		large    = Worker{PID: 52, Generation: 5, State: Serving, Started: now - hour, OverMemory: now - sec}
		young    = Worker{PID: 53, Generation: 5, State: Serving, Started: now - sec}
		starting = Worker{PID: 60, Generation: 5, State: Starting, Started: now - sec, Replaces: 51}
		ready    = Worker{PID: 60, Generation: 5, State: Ready, Started: now - sec, Replaces: 51}
		serving  = Worker{PID: 60, Generation: 5, State: Serving, Started: now - sec, Replaces: 51}
		draining = Worker{PID: 51, Generation: 5, State: Draining, Started: now - hour, Deadline: now + 20*sec}
		prior    = Worker{PID: 40, Generation: 4, State: Draining, Deadline: now + 20*sec, OverRequests: now - sec}
	)
	aged := func(n int, d time.Duration) func(*View) {
		return func(v *View) { v.Slots, v.MaxAge = n, d }
	}
	end := func(p Worker, d time.Duration) monotime.Time {
		return p.Started.Add(time.Duration(Jitter(int64(d), p.PID)))
	}
	readyEnd, graceEnd := starting.Started.Add(readyTime), draining.Deadline.Add(killGrace)

	for _, tt := range []struct {
		name string
		view View
		todo []Action
		next monotime.Time
	}{
		{"due", at(nil, due), []Action{Replace{51, whyRequests}}, 0},
		{"too much memory", at(nil, large), []Action{Replace{52, WhyMemory}}, 0},
		{
			"too much memory, a moment after another that had",
			at(func(v *View) { v.Recycling.memory.until = now + 9*sec }, large), nil, now + 9*sec,
		},
		{
			"due and too much memory, that goes on",
			at(func(v *View) { v.Recycling.memory.until = now + 9*sec },
				with(large, func(p *Worker) { p.OverRequests = now })),
			[]Action{Replace{52, whyRequests}},
			0,
		},
		{"too old", at(aged(1, 20*time.Minute), old), []Action{Replace{50, whyAge}}, 0},
		{"too old later", at(aged(1, 20*time.Minute), young), nil, end(young, 20*time.Minute)},
		{
			"the first of two", at(aged(2, 20*time.Minute), young, inSlot(young, 1)), nil,
			min(end(young, 20*time.Minute), end(inSlot(young, 1), 20*time.Minute)),
		},
		{
			"the one that has waited for longest",
			at(slots(3), with(due, func(p *Worker) { p.OverRequests++ }), inSlot(due, 1), inSlot(due, 2)),
			[]Action{Replace{151, whyRequests}},
			0,
		},
		{"another generation's", at(nil, young, prior), nil, graceEnd},
		{"of a slot that goes", at(slots(1), young, inSlot(due, 1)), []Action{Drain{151, now.Add(drainTime)}}, 0},
		{"in a reload", at(func(v *View) { v.Reloading = true }, due), nil, 0},
		{"after a failure", at(func(v *View) { v.Recycling.failed.until = now + 3*sec }, due), nil, now + 3*sec},
		{"stopping", at(func(v *View) { v.StopAt = now + sec }, due), []Action{Drain{51, now + sec}}, 0},
		{"beside an empty slot", at(slots(2), due), []Action{Start{1}, Replace{51, whyRequests}}, 0},

		{"the new one starts", at(slots(2), due, starting, inSlot(due, 1)), nil, readyEnd},
		{
			"the new one is ready", at(slots(2), due, ready, inSlot(due, 1)),
			[]Action{Activate{60}, Retire{51, now.Add(drainTime)}},
			0,
		},
		{
			"both adopted", at(nil, with(due, func(p *Worker) { p.State = Ready }), ready),
			[]Action{Activate{51}, Activate{60}, Retire{51, now.Add(drainTime)}},
			0,
		},
		{"adopted, the new one has GO", at(nil, due, serving), []Action{Retire{51, now.Add(drainTime)}}, 0},
		{"the old one drains", at(slots(2), draining, serving, inSlot(due, 1)), nil, graceEnd},
		{
			"the old one has gone", at(slots(2), with(serving, func(p *Worker) { p.Replaces = 0 }), inSlot(due, 1)),
			[]Action{Replace{151, whyRequests}},
			0,
		},
		{"the old one has crashed", at(nil, with(starting, func(p *Worker) { p.Replaces = 0 })), nil, readyEnd},
		{"the new one has crashed", at(nil, due), []Action{Replace{51, whyRequests}}, 0},
		{"the new one has crashed while the old one drained", at(nil, draining), []Action{Start{0}}, graceEnd},
		{
			"the new one is late", at(nil, due, with(starting, func(p *Worker) { p.Started = now - 10*sec })),
			[]Action{Kill{60, "not ready in time"}},
			0,
		},
		{
			"the new one starts, stopping", at(func(v *View) { v.StopAt = now + sec }, due, starting),
			[]Action{Drain{51, now + sec}, Drain{60, now + sec}},
			readyEnd,
		},
		{
			"the new one is ready, stopping", at(func(v *View) { v.StopAt = now + sec }, due, ready),
			[]Action{Drain{51, now + sec}, Drain{60, now + sec}},
			0,
		},
		{
			"the new one is ready, the slot goes",
			at(slots(1), young, inSlot(due, 1), with(inSlot(ready, 1), func(p *Worker) { p.Replaces = 151 })),
			[]Action{Drain{151, now.Add(drainTime)}, Drain{160, now.Add(drainTime)}},
			0,
		},
		{
			"a reload", at(func(v *View) { v.Generation = 6 }, due, ready),
			[]Action{Start{0}, Drain{51, now.Add(drainTime)}, Drain{60, now.Add(drainTime)}},
			0,
		},
	} {
		wantPlan(t, tt.name, tt.view, tt.todo, tt.next)
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, 9, 50, 1000, int64(time.Hour), 1 << 62} {
		low, high, sum := n, int64(0), 0.0
		for pid := 1; pid <= 4000; pid++ {
			a := Jitter(n, pid)
			if a > n || a < n-n/10-1 || n > 0 && a < 1 {
				t.Fatalf("jitter of %d for %d: %d", n, pid, a)
			}
			if a != Jitter(n, pid) {
				t.Fatalf("jitter of %d for %d changes", n, pid)
			}
			low, high, sum = min(low, a), max(high, a), sum+float64(a)
		}
		if n >= 1000 && (low > n-n/11 || high < n-n/100 || sum/4000 < 0.945*float64(n) || sum/4000 > 0.955*float64(n)) {
			t.Errorf("jitter of %d: %d to %d, on average %.0f", n, low, high, sum/4000)
		}
	}
}

func TestPauseGrows(t *testing.T) {
	t.Parallel()
	var p pause
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second} {
		if p.longer(now); time.Duration(p.until-now) != want {
			t.Errorf("pause %d: %v", i, time.Duration(p.until-now))
		}
	}
	for range 100 {
		p.longer(now)
	}
	if time.Duration(p.until-now) != pauseMax {
		t.Errorf("in the end: %v", time.Duration(p.until-now))
	}
}
