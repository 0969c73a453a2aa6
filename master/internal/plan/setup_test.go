package plan

import (
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
func at(change func(*View), procs ...Worker) View {
	v := View{
		Now: now, Generation: 5, Slots: 1, DrainTimeout: drainTime, ReadyTimeout: readyTime, MaxGenerations: 8,
		Workers: procs,
	}
	if change != nil {
		change(&v)
	}
	return v
}

// with is a worker with a change.
func with(p Worker, change func(*Worker)) Worker {
	change(&p)
	return p
}

// inSlot is a worker like p in another slot.
func inSlot(p Worker, slot int) Worker {
	p.Slot = slot
	p.PID += 100 * slot
	return p
}

// slots changes the number of slots of a view.
func slots(n int) func(*View) { return func(v *View) { v.Slots = n } }
