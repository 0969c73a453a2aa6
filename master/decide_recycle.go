package master

import (
	"cmp"
	"time"

	"baton/master/internal/monotime"
)

// A worker is recycled by another one that is started in the same slot. When that one is ready it gets GO, and the old one
// drains. That is one slot at a time: the next one's turn comes when the old worker has gone.

// Why a worker is recycled.
const (
	whyRequests = "max_requests"
	whyAge      = "max_age"
	whyMemory   = "max_memory"
)

// recycling is what decides about the replacement of a worker.
type recycling struct {
	replaces int           // the PID of the worker whose place it takes; 0: nobody's, or that one has gone
	due      monotime.Time // since when it has answered as many requests as it may; 0: it has not
	fat      monotime.Time // since when it has more memory than it may; 0: it has not
}

// recycleView is what decide has to know of recycling.
type recycleView struct {
	maxAge      time.Duration
	wait        bool          // nobody is to be replaced now: there is a reload
	notBefore   monotime.Time // after a replacement that has failed
	memoryAfter monotime.Time // the same for max_memory, where it does not help
}

type (
	// replaceAction starts a worker that is to take the place of another one.
	replaceAction struct {
		pid int
		why string
	}
	// retireAction drains a worker whose replacement serves.
	retireAction struct {
		pid      int
		deadline monotime.Time
	}
)

func (replaceAction) isAction() {}
func (retireAction) isAction()  {}

// serves reports whether p is a worker of this generation that has GO, or gets it now.
func (d *decision) serves(p procView) bool {
	return p.gen == d.generation && p.slot < d.want && (p.state == procServing || p.state == procReady)
}

// retire drains those whose replacement serves.
func (d *decision) retire() {
	if d.stopping {
		return
	}
	for _, q := range d.procs {
		if q.replaces == 0 || !d.serves(q) {
			continue
		}
		for _, p := range d.procs {
			if p.pid == q.replaces && p.state != procDraining {
				d.do(retireAction{pid: p.pid, deadline: d.now.Add(d.drainTimeout)})
			}
		}
	}
}

// replace starts the replacement of the worker that has been due for longest, or makes decide be asked again when one is.
func (d *decision) replace() {
	if d.stopping || d.recycle.wait || d.replacing() {
		return
	}
	var first procView
	var since monotime.Time
	var why string
	for _, p := range d.procs {
		at, because := d.dueSince(p)
		if at == 0 || since != 0 && cmp.Or(cmp.Compare(at, since), cmp.Compare(p.slot, first.slot)) > 0 {
			continue
		}
		first, since, why = p, at, because
	}
	if since != 0 && d.due(max(since, d.recycle.notBefore)) {
		d.do(replaceAction{pid: first.pid, why: why})
	}
}

// replacing reports whether a slot has two workers, or one of it has not gone yet.
func (d *decision) replacing() bool {
	for _, p := range d.procs {
		if p.gen == d.generation && (p.replaces != 0 || p.state == procDraining) {
			return true
		}
	}
	return false
}

// dueSince is when a worker is to be replaced, and why; 0: never.
func (d *decision) dueSince(p procView) (at monotime.Time, why string) {
	if !d.serves(p) {
		return 0, ""
	}
	earlier := func(m monotime.Time, because string) {
		if m != 0 && (at == 0 || m < at) {
			at, why = m, because
		}
	}
	earlier(p.due, whyRequests)
	if d.recycle.maxAge > 0 {
		earlier(p.started.Add(time.Duration(about(int64(d.recycle.maxAge), p.pid))), whyAge)
	}
	if p.fat != 0 {
		earlier(max(p.fat, d.recycle.memoryAfter), whyMemory)
	}
	return at, why
}

// about is n less up to a tenth, by chance of the process, and for one process always the same.
func about(n int64, pid int) int64 {
	x := uint64(pid) * 0x9e3779b97f4a7c15 // splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return n - int64(float64(n)/10*float64(x>>11)/(1<<53))
}
