package master

import (
	"slices"
	"time"

	"baton/master/internal/monotime"
)

// procState is how far a worker process has come, as its master knows it.
type procState uint8

const (
	procStarting procState = iota // started, has not said READY
	procReady                     // has said READY, has no GO
	procServing                   // has GO
	procDraining                  // was told to drain
)

func (s procState) String() string {
	switch s {
	case procStarting:
		return "starting"
	case procReady:
		return "ready"
	case procServing:
		return "serving"
	case procDraining:
		return "draining"
	}
	return "unknown"
}

// killGrace is how long a worker may be there after its drain deadline: it needs some of it to say what it cut.
const killGrace = time.Second

// cutGrace is how long a generation may go on that is cut because too many drain: protocols with a goodbye say it.
const cutGrace = 2 * time.Second

// procView is a worker process, for decide.
type procView struct {
	pid, gen, slot int
	state          procState
	started        monotime.Time
	deadline       monotime.Time // of its drain
	killed         monotime.Time // when KILL was asked for last
	recycling
	heart heartbeat
	taker bool // it takes connections of others
	grown bool // its slot is a new one, and it has not got its share of the connections yet
}

// view is all that decide looks at.
type view struct {
	now        monotime.Time
	generation int
	want       int // slots
	committed  bool
	stopping   bool
	stopAt     monotime.Time // deadline of the stop

	drainTimeout, readyTimeout time.Duration
	maxGenerations             int

	procs     []procView
	notBefore map[int]monotime.Time // when a slot may be filled again, after a crash
	recycle   recycleView
}

// action is one thing that the loop is to do.
type action interface{ isAction() }

type (
	startAction struct{ slot int }
	grantAction struct{ pid int }
	drainAction struct {
		pid      int
		deadline monotime.Time
	}
	cutAction struct { // its drain is to end before its time
		pid      int
		deadline monotime.Time
	}
	killAction struct {
		pid int
		why string
	}
)

func (startAction) isAction() {}
func (grantAction) isAction() {}
func (drainAction) isAction() {}
func (cutAction) isAction()   {}
func (killAction) isAction()  {}

// decide says what is to be done about the workers now, and when to ask again if nothing happens before; 0: never.
// It is called after every event and asks for nothing twice, as long as what it asks for is done.
func decide(v view) (todo []action, next monotime.Time) {
	d := decision{view: v}
	if !v.committed {
		return nil, 0
	}
	d.fillSlots()
	for _, p := range v.procs {
		d.one(p)
	}
	d.retire()
	d.replace()
	d.boundGenerations()
	return d.todo, d.next
}

type decision struct {
	view
	todo []action
	next monotime.Time
}

func (d *decision) do(a action) { d.todo = append(d.todo, a) }

// due reports whether m has come, and else makes decide be asked again then.
func (d *decision) due(m monotime.Time) bool {
	if m <= d.now {
		return true
	}
	if d.next == 0 || m < d.next {
		d.next = m
	}
	return false
}

// fillSlots starts a worker in every slot that has none.
func (d *decision) fillSlots() {
	if d.stopping {
		return
	}
	taken := map[int]bool{}
	for _, p := range d.procs {
		if p.gen == d.generation && p.state != procDraining {
			taken[p.slot] = true
		}
	}
	for slot := range d.want {
		if !taken[slot] && d.due(d.notBefore[slot]) {
			d.do(startAction{slot: slot})
		}
	}
}

// one decides about a single process.
func (d *decision) one(p procView) {
	switch p.state {
	case procStarting:
		d.killAt(p, p.started.Add(d.readyTimeout), "not ready in time")
		if d.stopping {
			d.do(drainAction{pid: p.pid, deadline: d.stopAt})
		}
	case procReady, procServing:
		d.killHung(p)
		switch {
		case d.stopping:
			d.do(drainAction{pid: p.pid, deadline: d.stopAt})
		case p.gen != d.generation || p.slot >= d.want:
			d.do(drainAction{pid: p.pid, deadline: d.now.Add(d.drainTimeout)})
		case p.state == procReady:
			d.do(grantAction{pid: p.pid})
		}
	case procDraining:
		if d.stopping && p.deadline > d.stopAt {
			d.do(drainAction{pid: p.pid, deadline: d.stopAt})
		}
		d.killAt(p, p.deadline.Add(killGrace), "drain deadline")
		d.killHung(p)
	}
}

// killHung kills a worker that has GO and shows no sign of life: what it holds is lost anyway, and its slot is filled as
// after a crash.
func (d *decision) killHung(p procView) {
	if p.heart.timeout > 0 && p.state != procReady {
		d.killAt(p, p.heart.at.Add(p.heart.timeout), whyHung)
	}
}

// killAt kills a process from moment m on, again and again: whose child it is may be changing.
func (d *decision) killAt(p procView, m monotime.Time, why string) {
	if p.killed != 0 {
		m = max(m, p.killed.Add(killGrace))
	}
	if d.due(m) {
		d.do(killAction{pid: p.pid, why: why})
	}
}

// boundGenerations cuts the oldest generations if too many drain. They have a moment for their goodbye, but not when
// reloads come so fast that there would be twice as many as allowed.
func (d *decision) boundGenerations() {
	var gens []int
	for _, p := range d.procs {
		if p.gen < d.generation && !slices.Contains(gens, p.gen) {
			gens = append(gens, p.gen)
		}
	}
	slices.Sort(gens)
	surplus := func(limit int) []int { return gens[:max(0, len(gens)-limit)] }
	most := min(d.maxGenerations, len(gens)) // twice that is a number, too
	tooMany, farTooMany := surplus(most), surplus(2*most)
	for _, p := range d.procs {
		switch {
		case slices.Contains(farTooMany, p.gen):
			d.cutAt(p, d.now)
		case slices.Contains(tooMany, p.gen):
			d.cutAt(p, d.now.Add(cutGrace))
		}
	}
}

// cutAt moves the end of a worker's drain forward to m, if it is not to end before that anyway.
func (d *decision) cutAt(p procView, m monotime.Time) {
	end := p.deadline
	if p.state != procDraining {
		end = d.now.Add(d.drainTimeout)
	}
	if end > m {
		d.do(cutAction{pid: p.pid, deadline: m})
	}
}
