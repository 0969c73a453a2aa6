package plan

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

// empty holds a slot back until then.
func (v *View) empty(slot int, until monotime.Time) {
	if v.Crashes.slots == nil {
		v.Crashes.slots = map[int]streak{}
	}
	v.Crashes.slots[slot] = streak{notBefore: until}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	var (
		starting = Worker{PID: 50, Generation: 5, State: Starting, Started: now - sec}
		ready    = Worker{PID: 51, Generation: 5, State: Ready, Started: now - sec}
		serving  = Worker{PID: 52, Generation: 5, State: Serving}
		draining = Worker{PID: 53, Generation: 5, State: Draining, Deadline: now + 20*sec}
		old      = Worker{PID: 40, Generation: 4, State: Serving}
		oldReady = Worker{PID: 41, Generation: 4, State: Ready}
		oldDrain = Worker{PID: 42, Generation: 4, State: Draining, Deadline: now + 20*sec}
	)
	stop := func(in monotime.Time) func(*View) { return func(v *View) { v.StopAt = now + in } }
	drain := func(pid int) Action { return Drain{PID: pid, Deadline: now.Add(drainTime)} }
	readyEnd, graceEnd := starting.Started.Add(readyTime), draining.Deadline.Add(killGrace)

	for _, tt := range []struct {
		name string
		view View
		todo []Action
		next monotime.Time
	}{
		{"at rest", at(nil, serving), nil, 0},

		{"an empty slot", at(nil), []Action{Start{0}}, 0},
		{"empty slots", at(slots(3), inSlot(serving, 1)), []Action{Start{0}, Start{2}}, 0},
		{"a slot that starts", at(nil, starting), nil, readyEnd},
		{"a slot that drains is empty", at(nil, draining), []Action{Start{0}}, graceEnd},
		{"a slot of another generation is empty", at(nil, oldDrain), []Action{Start{0}}, graceEnd},
		{"a slot that has crashed", at(func(v *View) { v.empty(0, now+sec) }), nil, now + sec},
		{"a slot that had crashed", at(func(v *View) { v.empty(0, now) }), []Action{Start{0}}, 0},
		{"the first of two crashed", at(func(v *View) {
			v.Slots = 2
			v.empty(0, now+2*sec)
			v.empty(1, now+sec)
		}), nil, now + sec},
		{"a surplus slot that has crashed", at(func(v *View) { v.empty(1, now+sec) }, serving), nil, 0},

		{"ready", at(nil, ready), []Action{Activate{51}}, 0},
		{"the ready and the old", at(nil, ready, old), []Action{Activate{51}, drain(40)}, 0},
		{"old and never granted", at(nil, serving, oldReady), []Action{drain(41)}, 0},
		{"old and draining", at(nil, serving, oldDrain), nil, graceEnd},
		{"surplus", at(slots(1), serving, inSlot(serving, 1)), []Action{drain(152)}, 0},
		{"surplus and ready", at(slots(1), serving, inSlot(ready, 1)), []Action{drain(151)}, 0},
		{"surplus and starting", at(slots(1), serving, inSlot(starting, 1)), nil, readyEnd},
		{"surplus and draining", at(slots(1), serving, inSlot(draining, 1)), nil, graceEnd},

		{
			"late", at(nil, with(starting, func(p *Worker) { p.Started = now - 10*sec })),
			[]Action{Kill{50, "not ready in time"}},
			0,
		},
		{
			"late and killed", at(nil, with(starting, func(p *Worker) { p.Started, p.Killed = now-10*sec, now })), nil,
			now.Add(killGrace),
		},
		{
			"late and killed long ago",
			at(nil, with(starting, func(p *Worker) { p.Started, p.Killed = now-10*sec, now-sec })),
			[]Action{Kill{50, "not ready in time"}},
			0,
		},
		{
			"at the drain deadline", at(nil, serving, with(oldDrain, func(p *Worker) { p.Deadline = now })), nil,
			now.Add(killGrace),
		},
		{
			"after it", at(nil, serving, with(oldDrain, func(p *Worker) { p.Deadline = now.Add(-killGrace) })),
			[]Action{Kill{42, "drain deadline"}},
			0,
		},
		{
			"after it and killed",
			at(nil, serving, with(oldDrain, func(p *Worker) { p.Deadline, p.Killed = now-5*sec, now })),
			nil, now.Add(killGrace),
		},

		{
			"who takes is not known yet", at(func(v *View) { v.DrainFrom = now + sec }, ready, old),
			[]Action{Activate{51}},
			now + sec,
		},
		{
			"who takes is not known in time", at(func(v *View) { v.DrainFrom = now }, serving, old),
			[]Action{drain(40)},
			0,
		},

		{"stopping: nothing starts", at(stop(8 * sec)), nil, 0},
		{
			"stopping: who takes is not known", at(func(v *View) { v.StopAt, v.DrainFrom = now+8*sec, now+sec }, old),
			[]Action{Drain{40, now + 8*sec}},
			0,
		},
		{"stopping: starting", at(stop(8*sec), starting), []Action{Drain{50, now + 8*sec}}, readyEnd},
		{"stopping: ready", at(stop(8*sec), ready), []Action{Drain{51, now + 8*sec}}, 0},
		{
			"stopping: serving", at(stop(8*sec), serving, old),
			[]Action{Drain{52, now + 8*sec}, Drain{40, now + 8*sec}},
			0,
		},
		{"stopping: draining for longer", at(stop(8*sec), oldDrain), []Action{Drain{42, now + 8*sec}}, graceEnd},
		{"stopping: draining for less", at(stop(30*sec), oldDrain), nil, graceEnd},
		{
			"stopping: draining for too long",
			at(stop(8*sec), with(oldDrain, func(p *Worker) { p.Deadline = now.Add(-killGrace) })),
			[]Action{Kill{42, "drain deadline"}},
			0,
		},
		{
			"stopping: too many slots", at(func(v *View) { stop(8 * sec)(v); v.Slots = 0 }, serving),
			[]Action{Drain{52, now + 8*sec}},
			0,
		},
	} {
		wantPlan(t, tt.name, tt.view, tt.todo, tt.next)
	}
}

// wantPlan fails the test if the plan for a view is another one.
func wantPlan(t *testing.T, name string, view View, todo []Action, next monotime.Time) {
	t.Helper()
	got, again := view.Plan()
	if !reflect.DeepEqual(got, todo) || again != next {
		t.Errorf("%s:\n got %+v, again in %v\nwant %+v, again in %v",
			name, got, time.Duration(again-now), todo, time.Duration(next-now))
	}
}

func TestHung(t *testing.T) {
	t.Parallel()
	const silent = now - 4*sec
	serving := Worker{PID: 50, Generation: 5, State: Serving, HangTimeout: 4 * time.Second, LastBeat: now - sec}
	with := func(p Worker, change func(*Worker)) Worker { change(&p); return p }
	kill := []Action{Kill{50, WhyHung}}
	for _, tt := range []struct {
		name string
		view View
		todo []Action
		next monotime.Time
	}{
		{"not watched", at(nil, with(serving, func(p *Worker) { p.HangTimeout = 0 })), nil, 0},
		{"lives", at(nil, serving), nil, now + 3*sec},
		{"hung", at(nil, with(serving, func(p *Worker) { p.LastBeat = silent })), kill, 0},
		{
			"hung and killed", at(nil, with(serving, func(p *Worker) { p.LastBeat, p.Killed = silent, now })), nil,
			now.Add(killGrace),
		},
		{
			"hung before GO", at(nil, with(serving, func(p *Worker) { p.LastBeat, p.State = silent, Ready })),
			[]Action{Activate{50}},
			0,
		},
		{"hung in its drain", at(nil, Worker{PID: 60, Generation: 5, State: Serving}, with(serving, func(p *Worker) {
			p.LastBeat, p.Generation, p.State, p.Deadline = silent, 4, Draining, now+9*sec
		})), kill, (now + 9*sec).Add(killGrace)},
		{"hung, and its replacement starts", at(nil, with(serving, func(p *Worker) { p.LastBeat = silent }), Worker{
			PID: 60, Generation: 5, State: Starting, Started: now, Replaces: 50,
		}), kill, now.Add(readyTime)},
	} {
		wantPlan(t, tt.name, tt.view, tt.todo, tt.next)
	}
}

func TestOldestGenerationsAreCut(t *testing.T) {
	t.Parallel()
	d := func(pid, gen int) Worker {
		return Worker{PID: pid, Generation: gen, State: Draining, Deadline: now + 20*sec}
	}
	soon := func(p Worker) Worker { p.Deadline = now.Add(cutGrace); return p }
	over := func(p Worker) Worker { p.Deadline = now; return p }
	late := func(p Worker) Worker { p.Deadline = now.Add(cutGrace) - 1; return p }
	serving := Worker{PID: 50, Generation: 5, State: Serving}
	const never, goodbye, atOnce = time.Duration(-1), cutGrace, time.Duration(0)
	for _, tt := range []struct {
		name  string
		limit int
		procs []Worker
		cut   []time.Duration // of each of procs: when
	}{
		{"none", 2, nil, nil},
		{"as many as allowed", 2, []Worker{d(1, 4), d(2, 3), d(3, 3)}, []time.Duration{never, never, never}},
		{"one more", 2, []Worker{d(1, 4), d(2, 3), d(3, 1), d(4, 1)}, []time.Duration{never, never, goodbye, goodbye}},
		{
			"twice as many as allowed", 2,
			[]Worker{d(1, 4), d(2, 3), d(3, 2), d(4, 1)},
			[]time.Duration{never, never, goodbye, goodbye},
		},
		{"more than twice as many", 1, []Worker{d(1, 4), d(2, 3), d(3, 1)}, []time.Duration{never, goodbye, atOnce}},
		{"cut already", 1, []Worker{d(1, 4), soon(d(2, 3)), over(d(3, 1))}, []time.Duration{never, never, never}},
		{
			"cut already, but not soon enough", 1,
			[]Worker{d(1, 4), soon(d(2, 3)), soon(d(3, 1))},
			[]time.Duration{never, never, atOnce},
		},
		{"their time is up anyway", 1, []Worker{d(1, 4), late(d(2, 3))}, []time.Duration{never, never}},
		{"as good as any number", math.MaxInt, []Worker{d(1, 4), d(2, 3)}, []time.Duration{never, never}},
		{"the running one does not count", 1, []Worker{d(1, 5), d(2, 4)}, []time.Duration{never, never}},
	} {
		todo, _ := at(func(v *View) { v.MaxGenerations = tt.limit }, append(tt.procs, serving)...).Plan()
		var cut, want []Action
		for _, a := range todo {
			if c, ok := a.(Cut); ok {
				cut = append(cut, c)
			}
		}
		for i, p := range tt.procs {
			if tt.cut[i] != never {
				want = append(want, Cut{p.PID, now.Add(tt.cut[i])})
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
	todo, _ := at(func(v *View) { v.MaxGenerations = 1 },
		Worker{PID: 1, Generation: 2, State: Serving}, Worker{PID: 2, Generation: 4, State: Serving},
		Worker{PID: 3, Generation: 5, State: Serving}).Plan()
	want := []Action{Drain{1, now.Add(drainTime)}, Drain{2, now.Add(drainTime)}, Cut{1, now.Add(cutGrace)}}
	if !reflect.DeepEqual(todo, want) {
		t.Errorf("%+v", todo)
	}
}

// TestLate: which worker was not READY in time, or when to look again.
func TestLate(t *testing.T) {
	t.Parallel()
	starting := Worker{PID: 1, State: Starting, Started: now - 3*sec}
	later := Worker{PID: 2, State: Starting, Started: now - 2*sec}
	late := Worker{PID: 3, State: Starting, Started: now.Add(-readyTime)}
	ready := Worker{PID: 4, State: Ready, Started: 1}
	for _, tt := range []struct {
		name string
		view View
		pid  int
		next monotime.Time
	}{
		{"no worker", at(nil), 0, 0},
		{"all are ready", at(nil, ready), 0, 0},
		{"one starts", at(nil, ready, starting), 0, starting.Started.Add(readyTime)},
		{"two start", at(nil, later, starting), 0, starting.Started.Add(readyTime)},
		{"one is late", at(nil, starting, late), 3, 0},
	} {
		pid := 0
		p, next := tt.view.Late()
		if p != nil {
			pid = p.PID
		}
		if pid != tt.pid || next != tt.next {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, pid, next, tt.pid, tt.next)
		}
	}
}

func TestStatesHaveNames(t *testing.T) {
	t.Parallel()
	for s, want := range map[State]string{
		Starting: "starting", Ready: "ready", Serving: "serving", Draining: "draining", 9: "unknown",
	} {
		if s.String() != want {
			t.Errorf("%d is %s", s, s)
		}
	}
}

// apply does to a model of the processes what the loop does.
func apply(v *View, todo []Action, lastPID *int) error {
	find := func(pid int) *Worker {
		for i := range v.Workers {
			if v.Workers[i].PID == pid {
				return &v.Workers[i]
			}
		}
		return nil
	}
	for _, a := range todo {
		var p *Worker
		switch a := a.(type) {
		case Start:
			*lastPID++
			v.Workers = append(v.Workers, Worker{PID: *lastPID, Generation: v.Generation, Slot: a.Slot, Started: v.Now})
			continue
		case Activate:
			p = find(a.PID)
			if p != nil && p.State != Ready {
				return fmt.Errorf("GO to one that is %v", p.State)
			}
			if p != nil {
				p.State = Serving
			}
		case Replace:
			old := find(a.PID)
			if old == nil || old.State != Serving {
				return fmt.Errorf("%+v: of %+v", a, old)
			}
			*lastPID++
			v.Workers = append(v.Workers, Worker{
				PID: *lastPID, Generation: v.Generation, Slot: old.Slot, Started: v.Now, Replaces: a.PID,
			})
			continue
		case Retire:
			if p = find(a.PID); p != nil {
				p.State, p.Deadline = Draining, a.Deadline
			}
		case Drain:
			if p = find(a.PID); p != nil {
				p.State, p.Deadline = Draining, a.Deadline
			}
		case Cut:
			if p = find(a.PID); p != nil {
				p.State, p.Deadline = Draining, a.Deadline
			}
		case Kill:
			if p = find(a.PID); p != nil {
				p.Killed = v.Now
			}
		}
		if p == nil {
			return fmt.Errorf("%+v: there is no such process", a)
		}
	}
	return nil
}

// bury does what the loop does when processes have gone: what they were replaced by replaces nobody.
func bury(v *View) {
	for i := range v.Workers {
		if !slices.ContainsFunc(v.Workers, func(p Worker) bool { return p.PID == v.Workers[i].Replaces }) {
			v.Workers[i].Replaces = 0
		}
	}
}

// wantOneSlotAtATime: no slot has more than two workers of the generation, of which one at least is no replacement's
// victim, and at most one slot has two that were not there because of a resize.
func wantOneSlotAtATime(v View) error {
	of := map[int][]Worker{}
	replacing := 0
	for _, p := range v.Workers {
		if p.Generation == v.Generation && p.State != Draining {
			of[p.Slot] = append(of[p.Slot], p)
		}
		if p.Generation == v.Generation && p.Replaces != 0 {
			replacing++
		}
	}
	for slot, ps := range of {
		if len(ps) > 2 || len(ps) == 2 && ps[0].Replaces == 0 && ps[1].Replaces == 0 {
			return fmt.Errorf("slot %d has %+v", slot, ps)
		}
	}
	if replacing > 1 {
		return fmt.Errorf("%d are being replaced", replacing)
	}
	return nil
}

// TestNothingIsAskedForTwice: whatever happens, once what a plan asks for is done it asks for nothing more, until
// something happens or the moment comes that it has named; and in the end every slot serves and nobody else is there.
func TestNothingIsAskedForTwice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		v := at(func(v *View) { v.MaxGenerations = 1 + r.IntN(3); v.Slots = r.IntN(4) })
		if r.IntN(3) == 0 {
			v.MaxAge = time.Minute
		}
		pid := 0
		settle := func(event string) {
			t.Helper()
			todo, _ := v.Plan()
			if err := apply(&v, todo, &pid); err != nil {
				t.Fatalf("seed %d, %s: %v", seed, event, err)
			}
			if err := wantOneSlotAtATime(v); err != nil {
				t.Fatalf("seed %d, %s: %v", seed, event, err)
			}
			if again, next := v.Plan(); len(again) != 0 || next != 0 && next <= v.Now {
				t.Fatalf("seed %d, %s: did %+v, and then asked for %+v, next %v\n%+v",
					seed, event, todo, again, next-v.Now, v)
			}
		}
		for range 60 {
			settle(happen(r, &v))
		}
		v.Slots, v.Crashes = max(v.Slots, 1), Crashes{}
		v.MaxAge, v.Reloading, v.Recycling = 0, false, Recycling{}
		settle("the end begins")
		for range 20 {
			finish(&v)
			settle("the end comes")
		}
		if v.stopping() && len(v.Workers) != 0 {
			t.Fatalf("seed %d: somebody is left: %+v", seed, v.Workers)
		}
		for _, p := range v.Workers {
			if p.Generation != v.Generation || p.Slot >= v.Slots || p.State != Serving {
				t.Fatalf("seed %d: somebody is left: %+v", seed, p)
			}
		}
		if !v.stopping() && len(v.Workers) != v.Slots {
			t.Fatalf("seed %d: %d of %d slots serve", seed, len(v.Workers), v.Slots)
		}
	}
}

// happen changes the world, and says how.
func happen(r *rand.Rand, v *View) string {
	one := func() int { return r.IntN(len(v.Workers)) }
	switch n := r.IntN(16); {
	case n == 0 && !v.stopping():
		v.Generation++
		return "a reload"
	case n == 1:
		v.Slots = r.IntN(5)
		return "a resize"
	case n == 2 && r.IntN(8) == 0 && !v.stopping():
		v.StopAt = v.Now + 8*sec
		return "a stop"
	case n <= 4:
		v.Now += monotime.Time(r.Int64N(int64(40 * time.Second)))
		return "time"
	case n <= 6 && len(v.Workers) > 0: // crash or end
		i := one()
		v.empty(v.Workers[i].Slot, v.Now+monotime.Time(r.Int64N(int64(2*time.Second))))
		v.Workers = append(v.Workers[:i:i], v.Workers[i+1:]...)
		bury(v)
		return "a death"
	case n == 13 && len(v.Workers) > 0:
		v.Workers[one()].OverRequests = v.Now
		return "a worker is due"
	case n == 14 && len(v.Workers) > 0:
		v.Workers[one()].OverMemory = v.Now - monotime.Time(r.Int64N(int64(time.Second)))
		return "a worker is fat"
	case n == 15:
		v.Reloading = !v.Reloading
		v.Recycling.failed.until = v.Now + monotime.Time(r.Int64N(int64(2*time.Second)))
		return "another pause"
	case len(v.Workers) > 0:
		if i := one(); v.Workers[i].State == Starting {
			v.Workers[i].State = Ready
			return "READY"
		}
	}
	return "nothing"
}

// finish makes the starting ready, and ends the draining.
func finish(v *View) {
	var left []Worker
	for _, p := range v.Workers {
		if p.State == Starting {
			p.State = Ready
		}
		if p.State != Draining && p.Killed == 0 {
			left = append(left, p)
		}
	}
	v.Workers = left
	bury(v)
}
