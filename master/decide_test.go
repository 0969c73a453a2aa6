package master

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"baton/master/internal/monotime"
)

const (
	now       = monotime.Time(1000 * time.Second)
	drainTime = 90 * time.Second
	readyTime = 10 * time.Second
	sec       = monotime.Time(time.Second)
)

// at is a view of generation 5 with one slot.
func at(change func(*view), procs ...procView) view {
	v := view{
		now: now, generation: 5, want: 1, committed: true, drainTimeout: drainTime, readyTimeout: readyTime, maxGenerations: 8,
		procs: procs, notBefore: map[int]monotime.Time{},
	}
	if change != nil {
		change(&v)
	}
	return v
}

func TestDecide(t *testing.T) {
	t.Parallel()
	var (
		starting = procView{pid: 50, gen: 5, state: procStarting, started: now - sec}
		ready    = procView{pid: 51, gen: 5, state: procReady, started: now - sec}
		serving  = procView{pid: 52, gen: 5, state: procServing}
		draining = procView{pid: 53, gen: 5, state: procDraining, deadline: now + 20*sec}
		old      = procView{pid: 40, gen: 4, state: procServing}
		oldReady = procView{pid: 41, gen: 4, state: procReady}
		oldDrain = procView{pid: 42, gen: 4, state: procDraining, deadline: now + 20*sec}
	)
	with := func(p procView, change func(*procView)) procView { change(&p); return p }
	slot := func(p procView, n int) procView { p.slot = n; p.pid += 100 * n; return p }
	stop := func(in monotime.Time) func(*view) { return func(v *view) { v.stopping, v.stopAt = true, now+in } }
	slots := func(n int) func(*view) { return func(v *view) { v.want = n } }
	drain := func(pid int) action { return drainAction{pid: pid, deadline: now.Add(drainTime)} }
	readyEnd, graceEnd := starting.started.Add(readyTime), draining.deadline.Add(killGrace)

	for _, tt := range []struct {
		name string
		view view
		todo []action
		next monotime.Time
	}{
		{"not committed", at(func(v *view) { v.committed = false }, ready, old), nil, 0},
		{"at rest", at(nil, serving), nil, 0},

		{"an empty slot", at(nil), []action{startAction{0}}, 0},
		{"empty slots", at(slots(3), slot(serving, 1)), []action{startAction{0}, startAction{2}}, 0},
		{"a slot that starts", at(nil, starting), nil, readyEnd},
		{"a slot that drains is empty", at(nil, draining), []action{startAction{0}}, graceEnd},
		{"a slot of another generation is empty", at(nil, oldDrain), []action{startAction{0}}, graceEnd},
		{"a slot that has crashed", at(func(v *view) { v.notBefore[0] = now + sec }), nil, now + sec},
		{"a slot that had crashed", at(func(v *view) { v.notBefore[0] = now }), []action{startAction{0}}, 0},
		{"the first of two crashed", at(func(v *view) {
			v.want = 2
			v.notBefore = map[int]monotime.Time{0: now + 2*sec, 1: now + sec}
		}), nil, now + sec},
		{"a surplus slot that has crashed", at(func(v *view) { v.notBefore[1] = now + sec }, serving), nil, 0},

		{"ready", at(nil, ready), []action{grantAction{51}}, 0},
		{"the ready and the old", at(nil, ready, old), []action{grantAction{51}, drain(40)}, 0},
		{"old and never granted", at(nil, serving, oldReady), []action{drain(41)}, 0},
		{"old and draining", at(nil, serving, oldDrain), nil, graceEnd},
		{"surplus", at(slots(1), serving, slot(serving, 1)), []action{drain(152)}, 0},
		{"surplus and ready", at(slots(1), serving, slot(ready, 1)), []action{drain(151)}, 0},
		{"surplus and starting", at(slots(1), serving, slot(starting, 1)), nil, readyEnd},
		{"surplus and draining", at(slots(1), serving, slot(draining, 1)), nil, graceEnd},

		{"late", at(nil, with(starting, func(p *procView) { p.started = now - 10*sec })), []action{killAction{50, "not ready in time"}}, 0},
		{"late and killed", at(nil, with(starting, func(p *procView) { p.started, p.killed = now-10*sec, now })), nil, now.Add(killGrace)},
		{
			"late and killed long ago", at(nil, with(starting, func(p *procView) { p.started, p.killed = now-10*sec, now-sec })),
			[]action{killAction{50, "not ready in time"}},
			0,
		},
		{"at the drain deadline", at(nil, serving, with(oldDrain, func(p *procView) { p.deadline = now })), nil, now.Add(killGrace)},
		{
			"after it", at(nil, serving, with(oldDrain, func(p *procView) { p.deadline = now.Add(-killGrace) })),
			[]action{killAction{42, "drain deadline"}},
			0,
		},
		{
			"after it and killed", at(nil, serving, with(oldDrain, func(p *procView) { p.deadline, p.killed = now-5*sec, now })),
			nil, now.Add(killGrace),
		},

		{"stopping: nothing starts", at(stop(8 * sec)), nil, 0},
		{"stopping: starting", at(stop(8*sec), starting), []action{drainAction{50, now + 8*sec}}, readyEnd},
		{"stopping: ready", at(stop(8*sec), ready), []action{drainAction{51, now + 8*sec}}, 0},
		{"stopping: serving", at(stop(8*sec), serving, old), []action{drainAction{52, now + 8*sec}, drainAction{40, now + 8*sec}}, 0},
		{"stopping: draining for longer", at(stop(8*sec), oldDrain), []action{drainAction{42, now + 8*sec}}, graceEnd},
		{"stopping: draining for less", at(stop(30*sec), oldDrain), nil, graceEnd},
		{
			"stopping: draining for too long", at(stop(8*sec), with(oldDrain, func(p *procView) { p.deadline = now.Add(-killGrace) })),
			[]action{killAction{42, "drain deadline"}},
			0,
		},
		{"stopping: too many slots", at(func(v *view) { stop(8 * sec)(v); v.want = 0 }, serving), []action{drainAction{52, now + 8*sec}}, 0},
	} {
		todo, next := decide(tt.view)
		if !reflect.DeepEqual(todo, tt.todo) || next != tt.next {
			t.Errorf("%s:\n got %+v, again in %v\nwant %+v, again in %v", tt.name, todo, time.Duration(next-now), tt.todo, time.Duration(tt.next-now))
		}
	}
}

func TestOldestGenerationsAreCut(t *testing.T) {
	t.Parallel()
	d := func(pid, gen int) procView {
		return procView{pid: pid, gen: gen, state: procDraining, deadline: now + 20*sec}
	}
	soon := func(p procView) procView { p.deadline = now.Add(cutGrace); return p }
	over := func(p procView) procView { p.deadline = now; return p }
	late := func(p procView) procView { p.deadline = now.Add(cutGrace) - 1; return p }
	serving := procView{pid: 50, gen: 5, state: procServing}
	const never, goodbye, atOnce = time.Duration(-1), cutGrace, time.Duration(0)
	for _, tt := range []struct {
		name  string
		limit int
		procs []procView
		cut   []time.Duration // of each of procs: when
	}{
		{"none", 2, nil, nil},
		{"as many as allowed", 2, []procView{d(1, 4), d(2, 3), d(3, 3)}, []time.Duration{never, never, never}},
		{"one more", 2, []procView{d(1, 4), d(2, 3), d(3, 1), d(4, 1)}, []time.Duration{never, never, goodbye, goodbye}},
		{"twice as many as allowed", 2, []procView{d(1, 4), d(2, 3), d(3, 2), d(4, 1)}, []time.Duration{never, never, goodbye, goodbye}},
		{"more than twice as many", 1, []procView{d(1, 4), d(2, 3), d(3, 1)}, []time.Duration{never, goodbye, atOnce}},
		{"cut already", 1, []procView{d(1, 4), soon(d(2, 3)), over(d(3, 1))}, []time.Duration{never, never, never}},
		{"cut already, but not soon enough", 1, []procView{d(1, 4), soon(d(2, 3)), soon(d(3, 1))}, []time.Duration{never, never, atOnce}},
		{"their time is up anyway", 1, []procView{d(1, 4), late(d(2, 3))}, []time.Duration{never, never}},
		{"as good as any number", math.MaxInt, []procView{d(1, 4), d(2, 3)}, []time.Duration{never, never}},
		{"the running one does not count", 1, []procView{d(1, 5), d(2, 4)}, []time.Duration{never, never}},
	} {
		todo, _ := decide(at(func(v *view) { v.maxGenerations = tt.limit }, append(tt.procs, serving)...))
		var cut, want []action
		for _, a := range todo {
			if c, ok := a.(cutAction); ok {
				cut = append(cut, c)
			}
		}
		for i, p := range tt.procs {
			if tt.cut[i] != never {
				want = append(want, cutAction{p.pid, now.Add(tt.cut[i])})
			}
		}
		if !reflect.DeepEqual(cut, want) {
			t.Errorf("%s: %v, want %v", tt.name, cut, want)
		}
	}
}

// An old worker that is told to drain, and is too many at once, ends soon: the last word is the cut.
func TestCutComesAfterDrain(t *testing.T) {
	t.Parallel()
	todo, _ := decide(at(func(v *view) { v.maxGenerations = 1 },
		procView{pid: 1, gen: 2, state: procServing}, procView{pid: 2, gen: 4, state: procServing}, procView{pid: 3, gen: 5, state: procServing}))
	want := []action{drainAction{1, now.Add(drainTime)}, drainAction{2, now.Add(drainTime)}, cutAction{1, now.Add(cutGrace)}}
	if !reflect.DeepEqual(todo, want) {
		t.Errorf("%+v", todo)
	}
}

func TestStatesHaveNames(t *testing.T) {
	t.Parallel()
	for s, want := range map[procState]string{
		procStarting: "starting", procReady: "ready", procServing: "serving", procDraining: "draining", 9: "unknown",
	} {
		if s.String() != want {
			t.Errorf("%d is %s", s, s)
		}
	}
}

// apply does to a model of the processes what the loop does.
func apply(v *view, todo []action, lastPID *int) error {
	find := func(pid int) *procView {
		for i := range v.procs {
			if v.procs[i].pid == pid {
				return &v.procs[i]
			}
		}
		return nil
	}
	for _, a := range todo {
		var p *procView
		switch a := a.(type) {
		case startAction:
			*lastPID++
			v.procs = append(v.procs, procView{pid: *lastPID, gen: v.generation, slot: a.slot, started: v.now})
			continue
		case grantAction:
			p = find(a.pid)
			if p != nil && p.state != procReady {
				return fmt.Errorf("GO to one that is %v", p.state)
			}
			if p != nil {
				p.state = procServing
			}
		case replaceAction:
			old := find(a.pid)
			if old == nil || old.state != procServing {
				return fmt.Errorf("%+v: of %+v", a, old)
			}
			*lastPID++
			v.procs = append(v.procs, procView{pid: *lastPID, gen: v.generation, slot: old.slot, started: v.now, recycling: recycling{replaces: a.pid}})
			continue
		case retireAction:
			if p = find(a.pid); p != nil {
				p.state, p.deadline = procDraining, a.deadline
			}
		case drainAction:
			if p = find(a.pid); p != nil {
				p.state, p.deadline = procDraining, a.deadline
			}
		case cutAction:
			if p = find(a.pid); p != nil {
				p.state, p.deadline = procDraining, a.deadline
			}
		case killAction:
			if p = find(a.pid); p != nil {
				p.killed = v.now
			}
		}
		if p == nil {
			return fmt.Errorf("%+v: there is no such process", a)
		}
	}
	return nil
}

// bury does what the loop does when processes have gone: what they were replaced by replaces nobody.
func bury(v *view) {
	for i := range v.procs {
		if !slices.ContainsFunc(v.procs, func(p procView) bool { return p.pid == v.procs[i].replaces }) {
			v.procs[i].replaces = 0
		}
	}
}

// wantOneSlotAtATime: no slot has more than two workers of the generation, of which one at least is no replacement's
// victim, and at most one slot has two that were not there because of a resize.
func wantOneSlotAtATime(v view) error {
	of := map[int][]procView{}
	replacing := 0
	for _, p := range v.procs {
		if p.gen == v.generation && p.state != procDraining {
			of[p.slot] = append(of[p.slot], p)
		}
		if p.gen == v.generation && p.replaces != 0 {
			replacing++
		}
	}
	for slot, ps := range of {
		if len(ps) > 2 || len(ps) == 2 && ps[0].replaces == 0 && ps[1].replaces == 0 {
			return fmt.Errorf("slot %d has %+v", slot, ps)
		}
	}
	if replacing > 1 {
		return fmt.Errorf("%d are being replaced", replacing)
	}
	return nil
}

// TestNothingIsAskedForTwice: whatever happens, once what decide asks for is done it asks for nothing more, until
// something happens or the moment comes that it has named; and in the end every slot serves and nobody else is there.
func TestNothingIsAskedForTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		v := at(func(v *view) { v.maxGenerations = 1 + r.IntN(3); v.want = r.IntN(4) })
		if r.IntN(3) == 0 {
			v.recycle.maxAge = time.Minute
		}
		pid := 0
		settle := func(event string) {
			t.Helper()
			todo, _ := decide(v)
			if err := apply(&v, todo, &pid); err != nil {
				t.Fatalf("seed %d, %s: %v", seed, event, err)
			}
			if err := wantOneSlotAtATime(v); err != nil {
				t.Fatalf("seed %d, %s: %v", seed, event, err)
			}
			if again, next := decide(v); len(again) != 0 || next != 0 && next <= v.now {
				t.Fatalf("seed %d, %s: did %+v, and then asked for %+v, next %v\n%+v", seed, event, todo, again, next-v.now, v)
			}
		}
		for range 60 {
			settle(happen(r, &v))
		}
		v.want, v.notBefore = max(v.want, 1), nil
		v.recycle = recycleView{}
		settle("the end begins")
		for range 20 {
			finish(&v)
			settle("the end comes")
		}
		if v.stopping && len(v.procs) != 0 {
			t.Fatalf("seed %d: somebody is left: %+v", seed, v.procs)
		}
		for _, p := range v.procs {
			if p.gen != v.generation || p.slot >= v.want || p.state != procServing {
				t.Fatalf("seed %d: somebody is left: %+v", seed, p)
			}
		}
		if !v.stopping && len(v.procs) != v.want {
			t.Fatalf("seed %d: %d of %d slots serve", seed, len(v.procs), v.want)
		}
	}
}

// happen changes the world, and says how.
func happen(r *rand.Rand, v *view) string {
	one := func() int { return r.IntN(len(v.procs)) }
	switch n := r.IntN(16); {
	case n == 0 && !v.stopping:
		v.generation++
		return "a reload"
	case n == 1:
		v.want = r.IntN(5)
		return "a resize"
	case n == 2 && r.IntN(8) == 0 && !v.stopping:
		v.stopping, v.stopAt = true, v.now+8*sec
		return "a stop"
	case n <= 4:
		v.now += monotime.Time(r.Int64N(int64(40 * time.Second)))
		return "time"
	case n <= 6 && len(v.procs) > 0: // crash or end
		i := one()
		v.notBefore[v.procs[i].slot] = v.now + monotime.Time(r.Int64N(int64(2*time.Second)))
		v.procs = append(v.procs[:i:i], v.procs[i+1:]...)
		bury(v)
		return "a death"
	case n == 13 && len(v.procs) > 0:
		v.procs[one()].due = v.now
		return "a worker is due"
	case n == 14 && len(v.procs) > 0:
		v.procs[one()].fat = v.now - monotime.Time(r.Int64N(int64(time.Second)))
		return "a worker is fat"
	case n == 15:
		v.recycle.wait = !v.recycle.wait
		v.recycle.notBefore = v.now + monotime.Time(r.Int64N(int64(2*time.Second)))
		return "another pause"
	case len(v.procs) > 0:
		if i := one(); v.procs[i].state == procStarting {
			v.procs[i].state = procReady
			return "READY"
		}
	}
	return "nothing"
}

// finish makes the starting ready, and ends the draining.
func finish(v *view) {
	var left []procView
	for _, p := range v.procs {
		if p.state == procStarting {
			p.state = procReady
		}
		if p.state != procDraining && p.killed == 0 {
			left = append(left, p)
		}
	}
	v.procs = left
	bury(v)
}
