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
	for _, tt := range []struct {
		name  string
		of    procView
		procs []procView
		slots int
		want  string
	}{
		{"the next generation, from its own slot on", old, []procView{old, serving(12, 2), serving(10, 0), serving(11, 1)}, 3, "[11 12 10]"},
		{"a slot that there is no more begins somewhere", with(old, func(p *procView) { p.slot = 5 }), []procView{serving(10, 0), serving(11, 1)}, 2, "[11 10]"},
		{"nobody", old, []procView{old}, 2, "[]"},
		{"not who takes nothing", old, []procView{with(serving(10, 0), func(p *procView) { p.taker = false }), serving(11, 1)}, 2, "[11]"},
		{"not who has no GO", old, []procView{with(serving(10, 0), func(p *procView) { p.state = procReady }), serving(11, 1)}, 2, "[11]"},
		{"not who drains", old, []procView{with(serving(10, 0), func(p *procView) { p.state = procDraining }), serving(11, 1)}, 2, "[11]"},
		{"not another old one", old, []procView{with(serving(10, 0), func(p *procView) { p.gen = 1 }), serving(11, 1)}, 2, "[11]"},
		{"not whose slot is to go", old, []procView{serving(10, 0), serving(11, 1)}, 1, "[10]"},
		{"not itself", serving(11, 1), []procView{serving(10, 0), serving(11, 1)}, 2, "[10]"},
		{"who takes its place takes all", retired, []procView{serving(10, 0), with(serving(12, 1), replaces(11))}, 2, "[12]"},
		{"not whose place another one takes", old, []procView{serving(10, 0), serving(11, 1), with(serving(12, 1), replaces(11))}, 2, "[12 10]"},
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
		{"those that there were to those that are new", []procView{worker(0, false), worker(1, true), worker(2, true)}, 3, []int{10}, []int{11, 12}},
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
