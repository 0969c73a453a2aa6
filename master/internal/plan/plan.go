package plan

import (
	"slices"
	"time"

	"baton/master/internal/monotime"
)

// State is how far a worker process has come, as its master knows it.
type State uint8

const (
	Starting State = iota // started, has not said READY
	Ready                 // has said READY, may not accept yet
	Serving               // may accept
	Draining              // was told to drain
)

func (s State) String() string {
	switch s {
	case Starting:
		return "starting"
	case Ready:
		return "ready"
	case Serving:
		return "serving"
	case Draining:
		return "draining"
	}
	return "unknown"
}

// killGrace is how long a worker may be there after its drain deadline: it needs some of it to say what it cut.
const killGrace = time.Second

// cutGrace is how long a generation may go on that is cut because too many drain: protocols with a goodbye say it.
const cutGrace = 2 * time.Second

// Why a worker is killed.
const (
	WhyHung  = "no heartbeat for hang_timeout"
	whyLate  = "not ready in time"
	whyDrain = "drain deadline"
)

// Worker is a worker process, as its master knows it.
type Worker struct {
	PID, Generation, Slot int
	State                 State
	Started               monotime.Time
	Deadline              monotime.Time // of its drain
	Killed                monotime.Time // when KILL was asked for last

	Replaces     int           // the PID of the worker whose place it takes; 0: none, or that one has exited
	OverRequests monotime.Time // since when it has answered as many requests as it may; 0: it has not
	OverMemory   monotime.Time // since when it has more memory than it may; 0: it has not

	HangTimeout time.Duration // 0: its heartbeat is not watched
	LastBeat    monotime.Time // when the last beat was seen, or has to be taken for seen

	Taker bool // it takes connections of others
	Grown bool // its slot is a new one, and it has not got its share of the connections yet
}

// View is all that a plan is made from: what a generation that has taken over sees.
type View struct {
	Now        monotime.Time
	Generation int
	Slots      int
	StopAt     monotime.Time // the deadline of a stop; 0: baton is not stopping
	Reloading  bool          // no worker is recycled now
	// DrainFrom is when workers may be told to drain, but for a stop: a master that was restarted hears first which
	// workers take their connections, or those would be closed that another worker could have.
	DrainFrom monotime.Time

	DrainTimeout, ReadyTimeout, MaxAge time.Duration
	MaxGenerations                     int

	Workers   []Worker
	Crashes   Crashes
	Recycling Recycling
}

// Action is one thing that must be done.
type Action interface{ isAction() }

type (
	// Start starts a worker in an empty slot.
	Start struct{ Slot int }

	// Activate lets a worker accept.
	Activate struct{ PID int }

	// Drain tells a worker to drain.
	Drain struct {
		PID      int
		Deadline monotime.Time
	}

	// Cut ends a worker's drain before its time.
	Cut struct {
		PID      int
		Deadline monotime.Time
	}

	// Heal ends the streak of crashes of a slot: its worker has lived long enough.
	Heal struct{ Slot int }

	// Kill kills a worker.
	Kill struct {
		PID int
		Why string
	}

	// Replace starts a worker that takes the place of another one.
	Replace struct {
		PID int
		Why string
	}

	// Retire drains a worker whose replacement serves.
	Retire struct {
		PID      int
		Deadline monotime.Time
	}
)

func (Start) isAction()    {}
func (Activate) isAction() {}
func (Drain) isAction()    {}
func (Cut) isAction()      {}
func (Heal) isAction()     {}
func (Kill) isAction()     {}
func (Replace) isAction()  {}
func (Retire) isAction()   {}

// Plan returns what must be done about the workers now, and when to ask again if nothing happens before; 0: never.
// It is called after every event and asks for nothing twice, as long as what it asks for is done.
func (v View) Plan() (todo []Action, next monotime.Time) {
	d := decision{View: v}
	d.fillSlots()
	d.heal()
	for _, p := range v.Workers {
		d.one(p)
	}
	d.retire()
	d.replace()
	d.boundGenerations()
	return d.todo, d.next
}

// Late returns a worker that was not READY in time, if there is one, and otherwise when to look again.
func (v View) Late() (late *Worker, next monotime.Time) {
	for _, p := range v.Workers {
		if p.State != Starting {
			continue
		}
		end := p.Started.Add(v.ReadyTimeout)
		if end <= v.Now {
			return &p, 0
		}
		next = monotime.Earliest(next, end)
	}
	return nil, next
}

type decision struct {
	View
	todo []Action
	next monotime.Time
}

func (d *decision) do(a Action) { d.todo = append(d.todo, a) }

// due reports whether t has come; if not, the plan is made again then.
func (d *decision) due(t monotime.Time) bool {
	if t <= d.Now {
		return true
	}
	d.next = monotime.Earliest(d.next, t)
	return false
}

func (v View) stopping() bool { return v.StopAt != 0 }

// taken are the slots that have a worker, or will have one.
func (v View) taken() map[int]bool {
	taken := map[int]bool{}
	for _, p := range v.Workers {
		if p.Generation == v.Generation && p.State != Draining {
			taken[p.Slot] = true
		}
	}
	return taken
}

// OlderGenerations are those that still have workers, in order.
func (v View) OlderGenerations() []int {
	var gens []int
	for _, p := range v.Workers {
		if p.Generation < v.Generation && !slices.Contains(gens, p.Generation) {
			gens = append(gens, p.Generation)
		}
	}
	slices.Sort(gens)
	return gens
}

// fillSlots starts a worker in every slot that has none.
func (d *decision) fillSlots() {
	if d.stopping() {
		return
	}
	taken := d.taken()
	for slot := range d.Slots {
		if !taken[slot] && d.due(d.Crashes.slots[slot].notBefore) {
			d.do(Start{Slot: slot})
		}
	}
}

// heal ends the streaks of those slots whose worker has lived long enough.
func (d *decision) heal() {
	if d.stopping() {
		return
	}
	for _, slot := range d.Crashes.looping() {
		for _, p := range d.Workers {
			ours := p.Slot == slot && p.Generation == d.Generation && p.State == Serving
			if ours && d.due(d.Crashes.slots[slot].healsAt(p.Started)) {
				d.do(Heal{Slot: slot})
				break
			}
		}
	}
}

// one decides about a single process.
func (d *decision) one(p Worker) {
	switch p.State {
	case Starting:
		d.killAt(p, p.Started.Add(d.ReadyTimeout), whyLate)
		if d.stopping() {
			d.do(Drain{PID: p.PID, Deadline: d.StopAt})
		}
	case Ready, Serving:
		d.killHung(p)
		switch {
		case d.stopping():
			d.do(Drain{PID: p.PID, Deadline: d.StopAt})
		case p.Generation != d.Generation || p.Slot >= d.Slots:
			if d.due(d.DrainFrom) {
				d.do(Drain{PID: p.PID, Deadline: d.Now.Add(d.DrainTimeout)})
			}
		case p.State == Ready:
			d.do(Activate{PID: p.PID})
		}
	case Draining:
		if d.stopping() && p.Deadline > d.StopAt {
			d.do(Drain{PID: p.PID, Deadline: d.StopAt})
		}
		d.killAt(p, p.Deadline.Add(killGrace), whyDrain)
		d.killHung(p)
	}
}

// killHung kills a worker that may accept and shows no sign of life: what it holds is lost anyway, and its slot is
// filled as after a crash.
func (d *decision) killHung(p Worker) {
	if p.HangTimeout > 0 && p.State != Ready {
		d.killAt(p, p.LastBeat.Add(p.HangTimeout), WhyHung)
	}
}

// killAt kills a process from m on, again and again: whose child it is may be changing.
func (d *decision) killAt(p Worker, m monotime.Time, why string) {
	if p.Killed != 0 {
		m = max(m, p.Killed.Add(killGrace))
	}
	if d.due(m) {
		d.do(Kill{PID: p.PID, Why: why})
	}
}

// boundGenerations cuts the oldest generations if too many drain. They have a moment for their goodbye, but not when
// reloads come so fast that there would be twice as many as allowed.
func (d *decision) boundGenerations() {
	gens := d.OlderGenerations()
	surplus := func(limit int) []int { return gens[:max(0, len(gens)-limit)] }
	most := min(d.MaxGenerations, len(gens)) // twice that is a number, too
	tooMany, farTooMany := surplus(most), surplus(2*most)
	for _, p := range d.Workers {
		switch {
		case slices.Contains(farTooMany, p.Generation):
			d.cutAt(p, d.Now)
		case slices.Contains(tooMany, p.Generation):
			d.cutAt(p, d.Now.Add(cutGrace))
		}
	}
}

// cutAt moves the end of a worker's drain forward to m, if it is not to end before that anyway.
func (d *decision) cutAt(p Worker, m monotime.Time) {
	end := p.Deadline
	if p.State != Draining {
		end = d.Now.Add(d.DrainTimeout)
	}
	if end > m {
		d.do(Cut{PID: p.PID, Deadline: m})
	}
}
