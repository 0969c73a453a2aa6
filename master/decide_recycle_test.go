package master

import (
	"reflect"
	"testing"
	"time"

	"baton/master/internal/monotime"
)

func TestDecideRecycling(t *testing.T) {
	t.Parallel()
	const hour = monotime.Time(time.Hour)
	var (
		old      = procView{pid: 50, gen: 5, state: procServing, started: now - hour}
		due      = procView{pid: 51, gen: 5, state: procServing, started: now - hour, recycling: recycling{due: now - sec}}
		fat      = procView{pid: 52, gen: 5, state: procServing, started: now - hour, recycling: recycling{fat: now - sec}}
		young    = procView{pid: 53, gen: 5, state: procServing, started: now - sec}
		starting = procView{pid: 60, gen: 5, state: procStarting, started: now - sec, recycling: recycling{replaces: 51}}
		ready    = procView{pid: 60, gen: 5, state: procReady, started: now - sec, recycling: recycling{replaces: 51}}
		serving  = procView{pid: 60, gen: 5, state: procServing, started: now - sec, recycling: recycling{replaces: 51}}
		draining = procView{pid: 51, gen: 5, state: procDraining, started: now - hour, deadline: now + 20*sec}
		prior    = procView{pid: 40, gen: 4, state: procDraining, deadline: now + 20*sec, recycling: recycling{due: now - sec}}
	)
	in := func(p procView, slot int) procView { p.slot = slot; p.pid += 100 * slot; return p }
	with := func(p procView, change func(*procView)) procView { change(&p); return p }
	slots := func(n int) func(*view) { return func(v *view) { v.want = n } }
	aged := func(n int, d time.Duration) func(*view) {
		return func(v *view) { v.want, v.recycle.maxAge = n, d }
	}
	end := func(p procView, d time.Duration) monotime.Time {
		return p.started.Add(time.Duration(about(int64(d), p.pid)))
	}
	readyEnd, graceEnd := starting.started.Add(readyTime), draining.deadline.Add(killGrace)

	for _, tt := range []struct {
		name string
		view view
		todo []action
		next monotime.Time
	}{
		{"due", at(nil, due), []action{replaceAction{51, whyRequests}}, 0},
		{"too much memory", at(nil, fat), []action{replaceAction{52, whyMemory}}, 0},
		{"too much memory, a moment after another that had", at(func(v *view) { v.recycle.memoryAfter = now + 9*sec }, fat), nil, now + 9*sec},
		{"due and too much memory, that goes on", at(func(v *view) { v.recycle.memoryAfter = now + 9*sec }, with(fat, func(p *procView) { p.due = now })), []action{replaceAction{52, whyRequests}}, 0},
		{"too old", at(aged(1, 20*time.Minute), old), []action{replaceAction{50, whyAge}}, 0},
		{"too old later", at(aged(1, 20*time.Minute), young), nil, end(young, 20*time.Minute)},
		{"the first of two", at(aged(2, 20*time.Minute), young, in(young, 1)), nil, min(end(young, 20*time.Minute), end(in(young, 1), 20*time.Minute))},
		{"the one that has waited for longest", at(slots(3), with(due, func(p *procView) { p.due++ }), in(due, 1), in(due, 2)), []action{replaceAction{151, whyRequests}}, 0},
		{"another generation's", at(nil, young, prior), nil, graceEnd},
		{"of a slot that goes", at(slots(1), young, in(due, 1)), []action{drainAction{151, now.Add(drainTime)}}, 0},
		{"in a reload", at(func(v *view) { v.recycle.wait = true }, due), nil, 0},
		{"after a failure", at(func(v *view) { v.recycle.notBefore = now + 3*sec }, due), nil, now + 3*sec},
		{"stopping", at(func(v *view) { v.stopping, v.stopAt = true, now+sec }, due), []action{drainAction{51, now + sec}}, 0},
		{"beside an empty slot", at(slots(2), due), []action{startAction{1}, replaceAction{51, whyRequests}}, 0},

		{"the new one starts", at(slots(2), due, starting, in(due, 1)), nil, readyEnd},
		{"the new one is ready", at(slots(2), due, ready, in(due, 1)), []action{grantAction{60}, retireAction{51, now.Add(drainTime)}}, 0},
		{"both adopted", at(nil, with(due, func(p *procView) { p.state = procReady }), ready), []action{grantAction{51}, grantAction{60}, retireAction{51, now.Add(drainTime)}}, 0},
		{"adopted, the new one has GO", at(nil, due, serving), []action{retireAction{51, now.Add(drainTime)}}, 0},
		{"the old one drains", at(slots(2), draining, serving, in(due, 1)), nil, graceEnd},
		{"the old one has gone", at(slots(2), with(serving, func(p *procView) { p.replaces = 0 }), in(due, 1)), []action{replaceAction{151, whyRequests}}, 0},
		{"the old one has crashed", at(nil, with(starting, func(p *procView) { p.replaces = 0 })), nil, readyEnd},
		{"the new one has crashed", at(nil, due), []action{replaceAction{51, whyRequests}}, 0},
		{"the new one has crashed while the old one drained", at(nil, draining), []action{startAction{0}}, graceEnd},
		{"the new one is late", at(nil, due, with(starting, func(p *procView) { p.started = now - 10*sec })), []action{killAction{60, "not ready in time"}}, 0},
		{"the new one starts, stopping", at(func(v *view) { v.stopping, v.stopAt = true, now+sec }, due, starting), []action{drainAction{51, now + sec}, drainAction{60, now + sec}}, readyEnd},
		{"the new one is ready, stopping", at(func(v *view) { v.stopping, v.stopAt = true, now+sec }, due, ready), []action{drainAction{51, now + sec}, drainAction{60, now + sec}}, 0},
		{"the new one is ready, the slot goes", at(slots(1), young, in(due, 1), with(in(ready, 1), func(p *procView) { p.replaces = 151 })), []action{drainAction{151, now.Add(drainTime)}, drainAction{160, now.Add(drainTime)}}, 0},
		{"a reload", at(func(v *view) { v.generation = 6 }, due, ready), []action{startAction{0}, drainAction{51, now.Add(drainTime)}, drainAction{60, now.Add(drainTime)}}, 0},
	} {
		todo, next := decide(tt.view)
		if !reflect.DeepEqual(todo, tt.todo) || next != tt.next {
			t.Errorf("%s:\n got %+v, again in %v\nwant %+v, again in %v", tt.name, todo, time.Duration(next-now), tt.todo, time.Duration(tt.next-now))
		}
	}
}

func TestAbout(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, 9, 50, 1000, int64(time.Hour), 1 << 62} {
		low, high, sum := n, int64(0), 0.0
		for pid := 1; pid <= 4000; pid++ {
			a := about(n, pid)
			if a > n || a < n-n/10-1 || n > 0 && a < 1 {
				t.Fatalf("about %d for %d: %d", n, pid, a)
			}
			if a != about(n, pid) {
				t.Fatalf("about %d for %d changes", n, pid)
			}
			low, high, sum = min(low, a), max(high, a), sum+float64(a)
		}
		if n >= 1000 && (low > n-n/11 || high < n-n/100 || sum/4000 < 0.945*float64(n) || sum/4000 > 0.955*float64(n)) {
			t.Errorf("about %d: %d to %d, on average %.0f", n, low, high, sum/4000)
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
