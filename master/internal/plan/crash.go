package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"baton/master/internal/backoff"
	"baton/master/internal/monotime"
	"baton/master/internal/status"
)

// How crashes hold back the worker that comes next.
//
// Each slot has a back-off, which forgets half of the crashes every crashHalf. The first one costs nothing; from the
// second on the delay doubles with each. So a worker that dies once a month never adds up, and one that dies every 11
// seconds does, however much longer it lives than the delay is.
//
// All slots have another budget together, so that many which crash at once do not eat the machine: as many starts at
// once as there are slots, and then one every crashPace. A start is some 10 ms of CPU.
const (
	crashHalf   = 5 * time.Minute
	crashMax    = 10 * time.Second
	crashLoop   = 2.5 // so many crashes and a slot crashes again and again: from the third in a row on
	crashForget = 0.5 // fewer that are not forgotten, and a crash is the first of another streak
	crashPace   = 100 * time.Millisecond
)

// crashHeal is how long a worker must have lived, at least, for its slot to be well again. It must also have lived
// twice as long as each of those in the streak before it.
const crashHeal = time.Second

// crashYoung is how soon after COMMIT a streak of crashes must begin to be laid to the new generation.
const crashYoung = 10 * time.Second

// crashBackoff is how long a slot stays empty.
var crashBackoff = backoff.Backoff{Free: 1, First: 100 * time.Millisecond, Max: crashMax, Half: crashHalf}

// Crashes is what a generation remembers of its crashes. The zero value is a generation without any.
type Crashes struct {
	Committed monotime.Time // when the generation took over; 0 if that is not known

	slots map[int]streak
	full  monotime.Time // when the budget of all slots together is full again
	young bool          // a streak that the new generation is to blame for has not ended
}

// streak is the crashes of one slot.
type streak struct {
	backoff.Backoff
	at      monotime.Time // of the last crash
	since   monotime.Time // the first crash of the streak
	count   int           // crashes in the streak
	longest time.Duration
	last    string // how the last one exited

	notBefore monotime.Time // the slot is not filled before
	looping   bool          // the streak is long enough to be talked of, and has not ended
}

// Loop is a slot that has begun to crash again and again.
type Loop struct {
	Crashes   int // of the slot
	NextStart time.Duration

	Young bool // the new generation is to blame, which is news
	Total int  // crashes of all such slots
}

// Add notes that the worker in a slot, one of n, has crashed, or could not be started, after it had lived for a while.
// It reports whether the slot begins to be one that crashes again and again.
func (c *Crashes) Add(slot, n int, lived time.Duration, how string, now monotime.Time) (loop Loop, begins bool) {
	if slot >= n { // it goes
		return Loop{}, false
	}
	s, ok := c.slots[slot]
	if !ok {
		s.Backoff = crashBackoff
	}
	wait := s.Next(now.Sub(s.at))
	if s.Failures < crashForget+1 {
		s = streak{Backoff: s.Backoff, since: now}
	}
	if now.Add(-lived) >= s.since {
		s.longest = max(s.longest, lived)
	}
	s.at, s.last = now, how
	s.count++
	s.notBefore = max(now.Add(wait), c.admit(n, now))
	begins = !s.looping && s.Failures >= crashLoop
	s.looping = s.looping || begins
	if c.slots == nil {
		c.slots = map[int]streak{}
	}
	c.slots[slot] = s
	if !begins {
		return Loop{}, false
	}
	wasYoung := c.young
	c.young = c.young || c.Committed != 0 && s.since <= c.Committed.Add(crashYoung)
	return Loop{s.count, max(0, s.notBefore.Sub(now)), c.young && !wasYoung, c.total()}, true
}

// Count returns the crashes in the streak of a slot.
func (c *Crashes) Count(slot int) int { return c.slots[slot].count }

// admit takes a start from the budget of all n slots, and says from when on there is one.
func (c *Crashes) admit(n int, now monotime.Time) monotime.Time {
	c.full = max(c.full, now).Add(crashPace)
	return c.full.Add(-time.Duration(n) * crashPace)
}

// healsAt is when a slot is well again if a worker that was started then lives.
func (s streak) healsAt(started monotime.Time) monotime.Time {
	return started.Add(max(crashHeal, 2*s.longest))
}

// Heal ends the streak of a slot.
func (c *Crashes) Heal(slot int) {
	s := c.slots[slot]
	s.looping = false
	c.slots[slot] = s
	c.young = c.young && len(c.looping()) > 0
}

// Shrink forgets the slots from n on.
func (c *Crashes) Shrink(n int) {
	maps.DeleteFunc(c.slots, func(slot int, _ streak) bool { return slot >= n })
	c.young = c.young && len(c.looping()) > 0
}

// looping are the slots that crash again and again, in order.
func (c *Crashes) looping() []int {
	var all []int
	for _, slot := range slices.Sorted(maps.Keys(c.slots)) {
		if c.slots[slot].looping {
			all = append(all, slot)
		}
	}
	return all
}

// total is how many crashes there were in the streaks that have not ended.
func (c *Crashes) total() int {
	n := 0
	for _, slot := range c.looping() {
		n += c.slots[slot].count
	}
	return n
}

// Report is what status says of crashes.
func (c *Crashes) Report(v View) (list []status.CrashingSlot, warnings []string) {
	list = c.report(v.taken(), v.Now)
	return list, c.warnings(v.Generation, v.OlderGenerations(), list, v.Now)
}

// report lists the slots that crash again and again, and those that are empty because of a crash. taken are those that
// have a worker.
func (c *Crashes) report(taken map[int]bool, now monotime.Time) []status.CrashingSlot {
	all := []status.CrashingSlot{}
	for _, slot := range slices.Sorted(maps.Keys(c.slots)) {
		s := c.slots[slot]
		if !s.looping && taken[slot] {
			continue
		}
		r := status.CrashingSlot{
			Slot: slot, Crashes: s.count, Within: now.Sub(s.since).Seconds(), Last: s.last, Looping: s.looping,
			Empty: !taken[slot],
		}
		if r.Empty {
			r.NextStart = max(0, s.notBefore.Sub(now)).Seconds()
		}
		all = append(all, r)
	}
	return all
}

// crashLines is how many slots are warned of one by one.
const crashLines = 4

// warnings says in words what report lists, and whether the generation gen, which has taken over a moment ago, is to
// blame. draining are the older ones that are still there.
func (c *Crashes) warnings(gen int, draining []int, list []status.CrashingSlot, now monotime.Time) []string {
	var all []string
	if c.young {
		all = append(all, fmt.Sprintf("THE NEW GENERATION CRASHES: generation %d took over %s ago, "+
			"and has crashed %d times since%s; put back the configuration or the binary that worked, and reload",
			gen, tenths(now.Sub(c.Committed).Seconds()), c.total(), stillDrain(draining)))
	}
	lines := 0
	for _, s := range list {
		if !s.Looping {
			continue
		}
		if lines++; lines <= crashLines {
			all = append(all, crashWarning(s))
		}
	}
	if lines > crashLines {
		all = append(all, fmt.Sprintf("and %d more slots crash again and again", lines-crashLines))
	}
	return all
}

func crashWarning(s status.CrashingSlot) string {
	text := fmt.Sprintf("slot %d crashes again and again: %d times in %s, last: %s",
		s.Slot, s.Crashes, tenths(s.Within), s.Last)
	if s.Empty {
		return text + "; next start in " + tenths(s.NextStart)
	}
	return text + "; another worker has been started"
}

func stillDrain(gens []int) string {
	switch len(gens) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(", while generation %d still drains", gens[0])
	}
	return fmt.Sprintf(", while generations %d to %d still drain", slices.Min(gens), slices.Max(gens))
}

// tenths is a span of time in words.
func tenths(s float64) string {
	d := time.Duration(s * float64(time.Second))
	return cmp.Or(d.Round(100*time.Millisecond), 0).String()
}
