package plan

import (
	"fmt"
	"slices"
	"testing"
)

// TestTakers: who takes the connections of a worker that drains.
func TestTakers(t *testing.T) {
	t.Parallel()
	serving := func(pid, slot int) Worker {
		return Worker{PID: pid, Generation: 2, Slot: slot, State: Serving, Taker: true}
	}
	old := Worker{PID: 1, Generation: 1, Slot: 1, State: Draining, Taker: true}
	replaces := func(pid int) func(*Worker) { return func(p *Worker) { p.Replaces = pid } }
	retired := with(serving(11, 1), func(p *Worker) { p.State = Draining })
	many := []Worker{old}
	for i := range 100 {
		many = append(many, serving(100+i, i))
	}
	type procs = []Worker
	first, second, last := serving(10, 0), serving(11, 1), serving(12, 2)
	beside := func(change func(p *Worker)) procs { return procs{with(first, change), second} }
	for _, tt := range []struct {
		name  string
		of    Worker
		procs []Worker
		slots int
		want  string
	}{
		{"the next generation, from its own slot on", old, procs{old, last, first, second}, 3, "[11 12 10]"},
		{"a slot that is no more", with(old, func(p *Worker) { p.Slot = 5 }), procs{first, second}, 2, "[11 10]"},
		{"nobody", old, []Worker{old}, 2, "[]"},
		{"not who takes nothing", old, beside(func(p *Worker) { p.Taker = false }), 2, "[11]"},
		{"not who has no GO", old, beside(func(p *Worker) { p.State = Ready }), 2, "[11]"},
		{"not who drains", old, beside(func(p *Worker) { p.State = Draining }), 2, "[11]"},
		{"not another old one", old, beside(func(p *Worker) { p.Generation = 1 }), 2, "[11]"},
		{"not whose slot is to go", old, procs{first, second}, 1, "[10]"},
		{"not itself", serving(11, 1), procs{first, second}, 2, "[10]"},
		{"who takes its place takes all", retired, procs{first, with(serving(12, 1), replaces(11))}, 2, "[12]"},
		{
			"not whose place another one takes", old,
			procs{first, second, with(serving(12, 1), replaces(11))},
			2,
			"[12 10]",
		},
	} {
		if got := fmt.Sprint(View{Generation: 2, Slots: tt.slots, Workers: tt.procs}.Takers(tt.of)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := (View{Generation: 2, Slots: 100, Workers: many}.Takers(old)); len(got) != mostTakers || got[0] != 101 {
		t.Errorf("of 100: %d, the first is %d", len(got), got[0])
	}
}

// TestShares: who gives connections to whom after a resize.
func TestShares(t *testing.T) {
	t.Parallel()
	worker := func(slot int, grown bool) Worker {
		return Worker{PID: 10 + slot, Generation: 2, Slot: slot, State: Serving, Taker: true, Grown: grown}
	}
	starting := worker(3, true)
	starting.State = Starting
	old := worker(3, true)
	old.Generation = 1
	for _, tt := range []struct {
		name     string
		procs    []Worker
		slots    int
		from, to []int
	}{
		{
			"the old to the new",
			[]Worker{worker(0, false), worker(1, true), worker(2, true)},
			3,
			[]int{10},
			[]int{11, 12},
		},
		{"when all serve", []Worker{worker(0, false), worker(1, true), worker(2, true), starting}, 4, nil, nil},
		{"nobody is new", []Worker{worker(0, false), worker(1, false)}, 2, nil, nil},
		{"not of another generation", []Worker{worker(0, false), worker(1, true), old}, 2, []int{10}, []int{11}},
		{"not whose slot is to go", []Worker{worker(0, false), worker(1, true)}, 1, nil, nil},
	} {
		shares, to := View{Generation: 2, Slots: tt.slots, Workers: tt.procs}.Shares()
		var from []int
		for _, s := range shares {
			from = append(from, s.PID)
			takers := slices.Sorted(slices.Values(s.Takers))
			if !slices.Equal(takers, to) || s.Part != len(tt.to) || s.Of != len(tt.to)+len(tt.from) {
				t.Errorf("%s: %+v to %v", tt.name, s, to)
			}
		}
		if !slices.Equal(from, tt.from) || !slices.Equal(to, tt.to) {
			t.Errorf("%s: from %v to %v, want from %v to %v", tt.name, from, to, tt.from, tt.to)
		}
	}
}
