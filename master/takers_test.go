package master

import (
	"fmt"
	"testing"
)

// TestTakersOf: who takes the connections of a worker that drains.
func TestTakersOf(t *testing.T) {
	t.Parallel()
	serving := func(pid, slot int) procView {
		return procView{pid: pid, gen: 2, slot: slot, state: procServing, taker: true}
	}
	old := procView{pid: 1, gen: 1, slot: 1, state: procDraining, taker: true}
	with := func(p procView, change func(p *procView)) procView {
		change(&p)
		return p
	}
	replaces := func(pid int) func(*procView) { return func(p *procView) { p.replaces = pid } }
	retired := with(serving(11, 1), func(p *procView) { p.state = procDraining })
	many := []procView{old}
	for i := range 100 {
		many = append(many, serving(100+i, i))
	}
	type procs = []procView
	first, second, last := serving(10, 0), serving(11, 1), serving(12, 2)
	beside := func(change func(p *procView)) procs { return procs{with(first, change), second} }
	for _, tt := range []struct {
		name  string
		of    procView
		procs []procView
		slots int
		want  string
	}{
		{"the next generation, from its own slot on", old, procs{old, last, first, second}, 3, "[11 12 10]"},
		{"a slot that is no more", with(old, func(p *procView) { p.slot = 5 }), procs{first, second}, 2, "[11 10]"},
		{"nobody", old, []procView{old}, 2, "[]"},
		{"not who takes nothing", old, beside(func(p *procView) { p.taker = false }), 2, "[11]"},
		{"not who has no GO", old, beside(func(p *procView) { p.state = procReady }), 2, "[11]"},
		{"not who drains", old, beside(func(p *procView) { p.state = procDraining }), 2, "[11]"},
		{"not another old one", old, beside(func(p *procView) { p.gen = 1 }), 2, "[11]"},
		{"not whose slot is to go", old, procs{first, second}, 1, "[10]"},
		{"not itself", serving(11, 1), procs{first, second}, 2, "[10]"},
		{"who takes its place takes all", retired, procs{first, with(serving(12, 1), replaces(11))}, 2, "[12]"},
		{"not whose place another one takes", old, procs{first, second, with(serving(12, 1), replaces(11))}, 2, "[12 10]"},
	} {
		if got := fmt.Sprint(takersOf(tt.of, tt.procs, 2, tt.slots)); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if got := takersOf(old, many, 2, 100); len(got) != mostTakers || got[0] != 101 {
		t.Errorf("of 100: %d, the first is %d", len(got), got[0])
	}
}

// TestSharesOf: who gives connections to whom after a resize.
func TestSharesOf(t *testing.T) {
	t.Parallel()
	worker := func(slot int, grown bool) procView {
		return procView{pid: 10 + slot, gen: 2, slot: slot, state: procServing, taker: true, grown: grown}
	}
	starting := worker(3, true)
	starting.state = procStarting
	old := worker(3, true)
	old.gen = 1
	for _, tt := range []struct {
		name     string
		procs    []procView
		slots    int
		from, to []int
	}{
		{"the old to the new", []procView{worker(0, false), worker(1, true), worker(2, true)}, 3, []int{10}, []int{11, 12}},
		{"when all serve", []procView{worker(0, false), worker(1, true), worker(2, true), starting}, 4, nil, nil},
		{"nobody is new", []procView{worker(0, false), worker(1, false)}, 2, nil, nil},
		{"not of another generation", []procView{worker(0, false), worker(1, true), old}, 2, []int{10}, []int{11}},
		{"not whose slot is to go", []procView{worker(0, false), worker(1, true)}, 1, nil, nil},
	} {
		from, to := sharesOf(tt.procs, 2, tt.slots)
		if fmt.Sprint(pidsOf(from), pidsOf(to)) != fmt.Sprint(tt.from, tt.to) {
			t.Errorf("%s: from %v to %v, want from %v to %v", tt.name, pidsOf(from), pidsOf(to), tt.from, tt.to)
		}
	}
}

func pidsOf(procs []procView) (pids []int) {
	for _, p := range procs {
		pids = append(pids, p.pid)
	}
	return pids
}
