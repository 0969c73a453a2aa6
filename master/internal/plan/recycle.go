package plan

import (
	"cmp"
	"fmt"
	"time"

	"baton/master/internal/backoff"
	"baton/master/internal/monotime"
)

// A worker is recycled by another one that is started in the same slot. When that one is ready it may accept, and the
// old one drains. That is one slot at a time: the next one's turn comes when the old worker has gone.

// Why a worker is recycled.
const (
	whyRequests = "max_requests"
	whyAge      = "max_age"
	WhyMemory   = "max_memory"
)

// memoryYoung is the age below which a worker with too much memory is not worth replacing.
const memoryYoung = 10 * time.Second

// Recycling remembers which recycling has not helped. It dies with the generation.
type Recycling struct {
	failed   pause  // replacements in a row that have never served
	failure  string // of the last one
	memory   pause  // workers in a row that were young
	tooSmall string // the last one of them: max_memory is too small
}

// pause is how long something that does not help is not tried again.
type pause struct {
	backoff.Backoff
	until monotime.Time
}

const (
	pauseFirst = time.Second
	pauseMax   = 5 * time.Minute
)

// longer makes the pause begin anew, and last longer than the one before.
func (p *pause) longer(now monotime.Time) {
	p.First, p.Max = pauseFirst, pauseMax
	p.until = now.Add(p.Next(0))
}

// Failed notes that a replacement has never served, and returns the failures in a row and the pause.
func (r *Recycling) Failed(because string, now monotime.Time) (failures int, wait time.Duration) {
	r.failed.longer(now)
	r.failure = because
	return int(r.failed.Failures), r.failed.until.Sub(now)
}

// Replaced notes that a replacement serves.
func (r *Recycling) Replaced() { r.failed, r.failure = pause{}, "" }

// ReplacedForMemory notes that a worker had too much memory, so many bytes, and returns a warning if it does not help
// to replace workers: then the pause is longer.
func (r *Recycling) ReplacedForMemory(old Worker, limit, had int64, now monotime.Time) (
	warning string, again int, wait time.Duration,
) {
	age := old.OverMemory.Sub(old.Started)
	if age >= memoryYoung {
		r.memory, r.tooSmall = pause{}, ""
		return "", 0, 0
	}
	r.memory.longer(now)
	r.tooSmall = fmt.Sprintf("max_memory (%d bytes) is too small: the worker in slot %d had %d bytes "+
		"when it was %.1fs old", limit, old.Slot, had, age.Seconds())
	return r.tooSmall, int(r.memory.Failures), r.memory.until.Sub(now)
}

// MemorySuffices notes that no worker has too much memory. After a while the limit is not too small any more.
func (r *Recycling) MemorySuffices(now monotime.Time) {
	if now > r.memory.until.Add(memoryYoung) {
		r.memory, r.tooSmall = pause{}, ""
	}
}

// Warnings are for status, as long as something does not help.
func (r *Recycling) Warnings() []string {
	var all []string
	if n := int(r.failed.Failures); n > 0 {
		all = append(all,
			fmt.Sprintf("recycling has failed %d times in a row, the old worker serves on: %s", n, r.failure))
	}
	if r.memory.Failures > 0 {
		all = append(all, r.tooSmall)
	}
	return all
}

// serves reports whether p is a worker of this generation that may accept, or may now.
func (d *decision) serves(p Worker) bool {
	return p.Generation == d.Generation && p.Slot < d.Slots && (p.State == Serving || p.State == Ready)
}

// retire drains those whose replacement serves.
func (d *decision) retire() {
	if d.stopping() {
		return
	}
	for _, q := range d.Workers {
		if q.Replaces == 0 || !d.serves(q) {
			continue
		}
		for _, p := range d.Workers {
			if p.PID == q.Replaces && p.State != Draining {
				d.do(Retire{PID: p.PID, Deadline: d.Now.Add(d.DrainTimeout)})
			}
		}
	}
}

// replace starts the replacement of the worker that has been due for longest, or has the plan made again when one is.
func (d *decision) replace() {
	if d.stopping() || d.Reloading || d.replacing() {
		return
	}
	var first Worker
	var since monotime.Time
	var why string
	for _, p := range d.Workers {
		at, because := d.dueSince(p)
		if at == 0 || since != 0 && cmp.Or(cmp.Compare(at, since), cmp.Compare(p.Slot, first.Slot)) > 0 {
			continue
		}
		first, since, why = p, at, because
	}
	if since != 0 && d.due(max(since, d.Recycling.failed.until)) {
		d.do(Replace{PID: first.PID, Why: why})
	}
}

// replacing reports whether a slot has two workers, or one of it has not gone yet.
func (d *decision) replacing() bool {
	for _, p := range d.Workers {
		if p.Generation == d.Generation && (p.Replaces != 0 || p.State == Draining) {
			return true
		}
	}
	return false
}

// dueSince is when a worker must be replaced, and why; 0: never.
func (d *decision) dueSince(p Worker) (at monotime.Time, why string) {
	if !d.serves(p) {
		return 0, ""
	}
	earlier := func(m monotime.Time, because string) {
		if m != 0 && (at == 0 || m < at) {
			at, why = m, because
		}
	}
	earlier(p.OverRequests, whyRequests)
	if d.MaxAge > 0 {
		earlier(p.Started.Add(time.Duration(Jitter(int64(d.MaxAge), p.PID))), whyAge)
	}
	if p.OverMemory != 0 {
		earlier(max(p.OverMemory, d.Recycling.memory.until), WhyMemory)
	}
	return at, why
}

// Jitter is n less up to a tenth, by chance of the process, and for one process always the same.
func Jitter(n int64, pid int) int64 {
	x := uint64(pid) * 0x9e3779b97f4a7c15 // splitmix64
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return n - int64(float64(n)/10*float64(x>>11)/(1<<53))
}
