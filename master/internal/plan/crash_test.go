package plan

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/master/internal/monotime"
	"baton/master/internal/status"
)

// crashEvery makes the worker of slot 0, one of n, crash count times, each a life after it was started: at once where
// there is no delay. It returns the delays, and the time of the last crash.
func crashEvery(c *Crashes, life time.Duration, count int) (delays []time.Duration, at monotime.Time) {
	at = now
	for range count {
		at = at.Add(life)
		c.Add(0, 1, life, "exit status 3", at)
		next := max(at, c.slots[0].notBefore)
		delays = append(delays, time.Duration(next-at))
		at = next
	}
	return delays, at
}

func TestCrashDelays(t *testing.T) {
	t.Parallel()
	const month = 30 * 24 * time.Hour
	for _, tt := range []struct {
		name        string
		life        time.Duration
		count       int
		least, most time.Duration // the delay after the last crash
		looping     bool
	}{
		{"the first", 0, 1, 0, 0, false},
		{"the first, of one that was old", month, 1, 0, 0, false},
		{"the second", 0, 2, 99 * time.Millisecond, 100 * time.Millisecond, false},
		{"the third", 0, 3, 190 * time.Millisecond, 200 * time.Millisecond, true},
		{"the fourth", 0, 4, 390 * time.Millisecond, 400 * time.Millisecond, true},
		{"the tenth", 0, 10, 9 * time.Second, crashMax, true},
		{"the thousandth", 0, 1000, crashMax, crashMax, true},
		{"two in a minute", time.Minute, 2, 80 * time.Millisecond, 100 * time.Millisecond, false},
		{"one every 11 s, the fourth", 11 * time.Second, 4, 300 * time.Millisecond, 400 * time.Millisecond, true},
		{"one every 11 s, for ever", 11 * time.Second, 1000, crashMax, crashMax, true},
		{"one a minute, for ever", time.Minute, 1000, 2 * time.Second, crashMax, true},
		{"one in three minutes, for ever", 3 * time.Minute, 1000, 100 * time.Millisecond, time.Second, true},
		{"one in ten minutes, for ever", 10 * time.Minute, 1000, 0, 0, false},
		{"one an hour, for ever", time.Hour, 1000, 0, 0, false},
		{"one a month, for ever", month, 1000, 0, 0, false},
	} {
		var c Crashes
		delays, _ := crashEvery(&c, tt.life, tt.count)
		if got := delays[tt.count-1]; got < tt.least || got > tt.most || c.slots[0].looping != tt.looping {
			t.Errorf("%s: held back for %v, want %v to %v; again and again: %v",
				tt.name, got, tt.least, tt.most, c.slots[0].looping)
		}
		for i := 1; i < tt.count; i++ {
			if delays[i] < delays[i-1] {
				t.Errorf("%s: crash %d is held back for %v, less than the one before (%v)",
					tt.name, i+1, delays[i], delays[i-1])
				break
			}
		}
	}
}

// A streak that is over leaves nothing: neither a delay nor a number in the next one's words.
func TestCrashesAreForgotten(t *testing.T) {
	t.Parallel()
	var c Crashes
	_, at := crashEvery(&c, 0, 100)
	for _, tt := range []struct {
		later time.Duration
		most  time.Duration
		count int
	}{
		{crashHalf, 5 * time.Second, 101},
		{3 * crashHalf, 200 * time.Millisecond, 101},
		{5 * crashHalf, 0, 1},
	} {
		d := Crashes{slots: map[int]streak{0: c.slots[0]}}
		then := at.Add(tt.later)
		d.Add(0, 1, tt.later, "signal killed", then)
		s := d.slots[0]
		if got := time.Duration(max(0, s.notBefore-then)); got > tt.most || s.count != tt.count {
			t.Errorf("%v later: held back for %v, want at most %v; crash %d of the streak, want %d",
				tt.later, got, tt.most, s.count, tt.count)
		}
	}
}

func TestSlotsCrashAlone(t *testing.T) {
	t.Parallel()
	var c Crashes
	crashEvery(&c, 0, 20)
	at := c.slots[0].at.Add(time.Minute)
	if c.Add(1, 2, 0, "", at); c.slots[1].notBefore > at {
		t.Errorf("slot 1 is held back for %v because of slot 0", time.Duration(c.slots[1].notBefore-at))
	}
}

// TestCrashesDoNotEatTheMachine: however many slots crash, at once after their start, the starts are bounded: one of
// each slot right away, then ten a second, and in the end one of each slot every crashMax.
func TestCrashesDoNotEatTheMachine(t *testing.T) {
	t.Parallel()
	for _, slots := range []int{1, 2, 16, 64, 500} {
		var c Crashes
		due := make([]monotime.Time, slots) // of each slot's next start; it crashes a millisecond later
		starts := map[int64]int{}           // by second
		for range 100 * slots {
			slot := slices.Index(due, slices.Min(due))
			at := max(due[slot], now)
			if at >= now.Add(100*time.Second) {
				break
			}
			starts[int64((at-now)/sec)]++
			c.Add(slot, slots, time.Millisecond, "exit status 3", at.Add(time.Millisecond))
			due[slot] = max(c.slots[slot].notBefore, at.Add(time.Millisecond))
		}
		for second, n := range starts {
			most := int(math.Ceil(float64(time.Second)/float64(crashPace))) + 1
			if second == 0 {
				most += 2 * slots // the first starts, and as many after the first crashes
			}
			if second > 60 && slots <= 64 {
				most = min(most, slots)
			}
			if n > most {
				t.Errorf("%d slots: %d starts in second %d, at most %d are allowed", slots, n, second, most)
			}
		}
		last := 0
		for second := int64(90); second < 100; second++ {
			last += starts[second]
		}
		if last < min(slots, 95) {
			t.Errorf("%d slots: not every one is tried again: %v", slots, starts)
		}
	}
}

// All that die at the same moment are there again at once, whatever killed them.
func TestAllCrashTogether(t *testing.T) {
	t.Parallel()
	var c Crashes
	for slot := range 100 {
		if c.Add(slot, 100, time.Hour, "signal killed", now); c.slots[slot].notBefore > now {
			t.Fatalf("slot %d is held back", slot)
		}
	}
}

// heal lets workers live that were started then, one in each slot from 0 on, until now, and returns the slots that are
// well again, and when others will be.
func heal(c *Crashes, alive map[int]monotime.Time, now monotime.Time) (healed []int, next monotime.Time) {
	v := at(func(v *View) { v.Now, v.Slots, v.Crashes, v.DrainTimeout = now, len(alive), *c, drainTime })
	for slot, started := range alive {
		v.Workers = append(v.Workers, Worker{
			PID: slot + 1, Generation: 5, Slot: slot, State: Serving,
			Started: started,
		})
	}
	todo, next := v.Plan()
	for _, a := range todo {
		if h, ok := a.(Heal); ok {
			healed = append(healed, h.Slot)
			c.Heal(h.Slot)
		}
	}
	return healed, next
}

func TestCrashesHeal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		life   time.Duration
		count  int
		alive  time.Duration // -1: there is no worker
		healed bool
	}{
		{"nobody lives", 0, 5, -1, false},
		{"just started", 0, 5, 0, false},
		{"lives", 0, 5, crashHeal, true},
		{"lives not longer than those before", 11 * time.Second, 5, 20 * time.Second, false},
		{"lives longer", 11 * time.Second, 5, 22 * time.Second, true},
		{"was never ill", 0, 2, time.Hour, false},
	} {
		var c Crashes
		_, at := crashEvery(&c, tt.life, tt.count)
		alive := map[int]monotime.Time{}
		if tt.alive >= 0 {
			alive[0] = at
		}
		at = at.Add(max(0, tt.alive))
		ill := c.slots[0].looping
		healed, next := heal(&c, alive, at)
		if (len(healed) == 1) != tt.healed {
			t.Errorf("%s: healed %v", tt.name, healed)
		}
		if again, none := heal(&c, alive, at); len(again) != 0 || tt.healed && none != 0 {
			t.Errorf("%s: healed %v once more, next %v", tt.name, again, none)
		}
		wait := ill && tt.alive >= 0 && !tt.healed
		if wait != (next > at) {
			t.Errorf("%s: again in %v", tt.name, time.Duration(next-at))
		}
		if !wait {
			continue
		}
		if healed, _ = heal(&c, alive, next); len(healed) != 1 {
			t.Errorf("%s: not healed when it should be", tt.name)
		}
	}
}

// One that had lived for a month before the streak began does not have to be outlived.
func TestOldAgeDoesNotDelayHealing(t *testing.T) {
	t.Parallel()
	var c Crashes
	c.Add(0, 1, 30*24*time.Hour, "", now)
	for range 5 {
		c.Add(0, 1, time.Millisecond, "", now+sec)
	}
	if healed, _ := heal(&c, map[int]monotime.Time{0: now + 2*sec}, now+4*sec); len(healed) != 1 {
		t.Error("not healed")
	}
}

func TestSlotsThatGoAreForgotten(t *testing.T) {
	t.Parallel()
	var c Crashes
	c.Add(0, 2, 0, "", now)
	for range 5 {
		c.Add(1, 2, 0, "", now)
	}
	c.Shrink(1)
	c.Add(1, 1, 0, "", now)
	if len(c.slots) != 1 || len(c.looping()) != 0 {
		t.Errorf("%+v", c.slots)
	}
}

func TestCrashReport(t *testing.T) {
	t.Parallel()
	var c Crashes
	if list := c.report(nil, now); list == nil || len(list) != 0 {
		t.Errorf("nothing has crashed: %#v", list)
	}
	c.Add(0, 4, 0, "signal killed", now) // and has a worker again
	c.Add(1, 4, 0, "signal killed", now)
	for range 4 {
		c.Add(2, 4, 0, "exit status 3", now)
		c.Add(3, 4, 0, "signal segmentation fault", now)
	}
	then := now.Add(100 * time.Millisecond)
	got := c.report(map[int]bool{0: true, 3: true}, then)
	want := []status.CrashingSlot{
		{Slot: 1, Crashes: 1, Within: 0.1, Last: "signal killed", Empty: true},
		{Slot: 2, Crashes: 4, Within: 0.1, Last: "exit status 3", Looping: true, Empty: true, NextStart: 0.4},
		{Slot: 3, Crashes: 4, Within: 0.1, Last: "signal segmentation fault", Looping: true},
	}
	got[1].NextStart = math.Round(10*got[1].NextStart) / 10
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\n%+v\nwant\n%+v", got, want)
	}
	lines := c.warnings(1, nil, got, then)
	if want := []string{
		"slot 2 crashes again and again: 4 times in 100ms, last: exit status 3; next start in 400ms",
		"slot 3 crashes again and again: 4 times in 100ms, last: signal segmentation fault; another worker has been " +
			"started",
	}; !slices.Equal(lines, want) {
		t.Errorf("\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

func TestManyCrashingSlotsAreFewLines(t *testing.T) {
	t.Parallel()
	var c Crashes
	for slot := range 64 {
		for range 3 {
			c.Add(slot, 64, 0, "exit status 3", now)
		}
	}
	lines := c.warnings(1, nil, c.report(nil, now), now)
	if len(lines) != crashLines+1 || lines[crashLines] != "and 60 more slots crash again and again" {
		t.Errorf("%s", strings.Join(lines, "\n"))
	}
}

// TestYoungGenerationIsBlamed: a streak that begins right after COMMIT is said of the generation, until it heals.
func TestYoungGenerationIsBlamed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		committed monotime.Time // 0: a restarted master does not know
		draining  []int
		want      string
	}{
		{
			"young", now - 3*sec,
			[]int{4},
			"generation 5 took over 3s ago, and has crashed 3 times since, while generation 4 still drains; ",
		},
		{"young, two drain", now - 3*sec, []int{2, 4}, "3 times since, while generations 2 to 4 still drain; "},
		{"young and alone", now - 3*sec, nil, "generation 5 took over 3s ago, and has crashed 3 times since; "},
		{"old", now - 60*sec, []int{4}, ""},
		{"nobody knows", 0, []int{4}, ""},
	} {
		c := Crashes{Committed: tt.committed}
		for range 3 {
			c.Add(0, 2, 0, "exit status 3", now)
		}
		lines := c.warnings(5, tt.draining, nil, now)
		if got := strings.Join(lines, "\n"); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		heal(&c, map[int]monotime.Time{0: now}, now.Add(crashHeal))
		if lines := c.warnings(5, tt.draining, nil, now); len(lines) > 0 {
			t.Errorf("%s, healed: %q", tt.name, lines)
		}
	}
}

// TestCrashesAnyhow: whatever happens, no slot is held back for longer than the two budgets allow, and each heals in
// the end.
func TestCrashesAnyhow(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		c := Crashes{Committed: now}
		n := 1 + r.IntN(40)
		at := now
		for range 300 {
			at = at.Add(time.Duration(r.ExpFloat64() * float64(time.Second)))
			slot := r.IntN(n)
			if c.slots[slot].notBefore > at {
				continue // it is empty
			}
			c.Add(slot, n, time.Duration(r.Int64N(int64(time.Minute))), "exit status 3", at)
			if wait := time.Duration(c.slots[slot].notBefore - at); wait > crashMax+time.Duration(n)*crashPace {
				t.Fatalf("seed %d: held back for %v", seed, wait)
			}
		}
		alive := map[int]monotime.Time{}
		for slot := range n {
			alive[slot] = at
		}
		for next := at; next != 0; {
			if next > at.Add(10*time.Minute) {
				t.Fatalf("seed %d: heals only after %v", seed, time.Duration(next-at))
			}
			_, next = heal(&c, alive, next)
		}
		if ill := c.looping(); len(ill) != 0 || c.young {
			t.Fatalf("seed %d: %v have not healed", seed, ill)
		}
	}
}
