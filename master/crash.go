package master

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"baton/master/internal/monotime"
)

// How crashes hold back the worker that comes next.
//
// Each slot has a budget: a level that a crash raises by one, and of which half is forgotten every crashHalf. The first
// crash costs nothing; from the second on the delay doubles with each. So a worker that dies once a month never adds up,
// and one that dies every 11 seconds does, however much longer it lives than the delay is.
//
// All slots have another budget together, so that many which crash at once do not eat the machine: as many starts at once
// as there are slots, and then one every crashPace. A start is some 10 ms of CPU.
const (
	crashHalf   = 5 * time.Minute
	crashFirst  = 100 * time.Millisecond
	crashMax    = 10 * time.Second
	crashFree   = 1.5 // the level below which there is no delay
	crashLoop   = 2.5 // the level from which on a slot crashes again and again: the third crash in a row
	crashForget = 0.5 // the level below which a crash is the first of another row
	crashTop    = 9   // the level does not rise above it
	crashPace   = 100 * time.Millisecond
)

// crashHeal is how long a worker must have lived, at least, for its slot to be well again. It must also have lived twice
// as long as each of those in the row before it.
const crashHeal = time.Second

// crashYoung: a row that begins within it after COMMIT is laid to the new generation.
const crashYoung = 10 * time.Second

// crashes is what a generation remembers of its dead. The zero value is a generation without any.
type crashes struct {
	committed monotime.Time // when the generation took over; 0 if nobody knows
	slots     map[int]slotCrashes
	full      monotime.Time // when the budget of all slots together is full again
	young     bool          // a row that the new generation is to blame for has not ended
}

// slotCrashes is the memory of one slot.
type slotCrashes struct {
	level   float64       // at the moment at
	at      monotime.Time // of the last crash
	since   monotime.Time // the first crash of the row
	count   int           // crashes in the row
	longest time.Duration
	last    string // how the last one ended

	notBefore monotime.Time // the slot is not filled before
	looping   bool          // the row is long enough to be talked of, and has not ended
}

// levelAt is what is left of the level.
func (s slotCrashes) levelAt(now monotime.Time) float64 {
	return s.level * math.Exp2(-float64(now-s.at)/float64(crashHalf))
}

// died notes that the worker in a slot, one of n, has crashed, or could not be started, after it had lived for a while.
// It reports whether the slot begins to be one that crashes again and again.
func (c *crashes) died(slot, n int, lived time.Duration, how string, now monotime.Time) (begins bool) {
	s := c.slots[slot]
	level := s.levelAt(now)
	if level < crashForget {
		s = slotCrashes{since: now}
	}
	if now.Add(-lived) >= s.since {
		s.longest = max(s.longest, lived)
	}
	s.level, s.at, s.last = min(level+1, crashTop), now, how
	s.count++
	s.notBefore = max(now.Add(s.delay()), c.admit(n, now))
	begins = !s.looping && s.level >= crashLoop
	s.looping = s.looping || begins
	if begins && c.committed != 0 && s.since <= c.committed.Add(crashYoung) {
		c.young = true
	}
	if c.slots == nil {
		c.slots = map[int]slotCrashes{}
	}
	c.slots[slot] = s
	return begins
}

// had reports whether a worker in the slot has crashed.
func (c *crashes) had(slot int) bool { return c.slots[slot].count > 0 }

// delay is how long the slot stays empty.
func (s slotCrashes) delay() time.Duration {
	if s.level < crashFree {
		return 0
	}
	return min(crashMax, time.Duration(float64(crashFirst)*math.Exp2(s.level-2)))
}

// admit takes a start from the budget of all n slots, and says from when on there is one.
func (c *crashes) admit(n int, now monotime.Time) monotime.Time {
	c.full = max(c.full, now).Add(crashPace)
	return c.full.Add(-time.Duration(n) * crashPace)
}

// heal ends the rows of those slots whose worker has lived long enough, and says when to look again; 0: never. Slots from
// n on are forgotten. alive is when the worker that serves in a slot was started.
func (c *crashes) heal(n int, alive map[int]monotime.Time, now monotime.Time) (healed []int, next monotime.Time) {
	for slot, s := range c.slots {
		if slot >= n {
			delete(c.slots, slot)
			continue
		}
		started, ok := alive[slot]
		if !s.looping || !ok {
			continue
		}
		if end := started.Add(max(crashHeal, 2*s.longest)); end > now {
			if next == 0 || end < next {
				next = end
			}
			continue
		}
		s.looping = false
		c.slots[slot] = s
		healed = append(healed, slot)
	}
	c.young = c.young && len(c.looping()) > 0
	slices.Sort(healed)
	return healed, next
}

// looping are the slots that crash again and again, in order.
func (c *crashes) looping() []int {
	var all []int
	for _, slot := range slices.Sorted(maps.Keys(c.slots)) {
		if c.slots[slot].looping {
			all = append(all, slot)
		}
	}
	return all
}

// total is how many crashes there were in the rows that have not ended.
func (c *crashes) total() int {
	n := 0
	for _, slot := range c.looping() {
		n += c.slots[slot].count
	}
	return n
}

// report lists the slots that crash again and again, and those that are empty because of a crash. taken are those that
// have a worker.
func (c *crashes) report(taken map[int]bool, now monotime.Time) []CrashingSlot {
	all := []CrashingSlot{}
	for _, slot := range slices.Sorted(maps.Keys(c.slots)) {
		s := c.slots[slot]
		if !s.looping && taken[slot] {
			continue
		}
		r := CrashingSlot{
			Slot: slot, Crashes: s.count, Within: seconds(now - s.since), Last: s.last, Looping: s.looping, Empty: !taken[slot],
		}
		if r.Empty {
			r.NextStart = seconds(max(0, s.notBefore-now))
		}
		all = append(all, r)
	}
	return all
}

func seconds(m monotime.Time) float64 { return time.Duration(m).Seconds() }

// crashLines is how many slots are warned of one by one.
const crashLines = 4

// warnings says in words what report lists, and whether the generation gen, which has taken over a moment ago, is to
// blame. draining are the older ones that are still there.
func (c *crashes) warnings(gen int, draining []int, list []CrashingSlot, now monotime.Time) []string {
	var all []string
	if c.young {
		all = append(all, fmt.Sprintf("THE NEW GENERATION CRASHES: generation %d took over %s ago, and has crashed %d times since%s; "+
			"put back the configuration or the binary that worked, and reload",
			gen, tenths(seconds(now-c.committed)), c.total(), stillDrain(draining)))
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

func crashWarning(s CrashingSlot) string {
	text := fmt.Sprintf("slot %d crashes again and again: %d times in %s, last: %s", s.Slot, s.Crashes, tenths(s.Within), s.Last)
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
