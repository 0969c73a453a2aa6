package backoff

import (
	"math"
	"testing"
	"time"
)

const (
	ms     = time.Millisecond
	minute = time.Minute
)

// TestNext: what is waited after each of several failures, of something that lives equally long each time.
func TestNext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		b     Backoff
		lived time.Duration
		waits []time.Duration
	}{
		{
			"doubles",
			Backoff{First: time.Second, Max: 10 * time.Second},
			0,
			[]time.Duration{1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms, 10000 * ms, 10000 * ms},
		},
		{
			"some are free",
			Backoff{Free: 2, First: 100 * ms, Max: 150 * ms},
			0,
			[]time.Duration{0, 0, 100 * ms, 150 * ms, 150 * ms},
		},
		{
			"no time makes up for it",
			Backoff{First: 1 * ms, Max: 4 * ms},
			time.Hour,
			[]time.Duration{1 * ms, 2 * ms, 4 * ms, 4 * ms},
		},
		{
			"time does not matter where none goes by",
			Backoff{Free: 1, First: 100 * ms, Max: 10 * time.Second, Half: minute},
			0,
			[]time.Duration{0, 100 * ms, 200 * ms, 400 * ms},
		},
		{
			"half is forgotten",
			Backoff{First: 100 * ms, Max: 10 * time.Second, Half: minute},
			minute,
			[]time.Duration{100 * ms, 141 * ms, 168 * ms, 183 * ms},
		},
		{
			"all is forgotten",
			Backoff{Free: 1, First: 100 * ms, Max: 10 * time.Second, Half: minute},
			time.Hour,
			[]time.Duration{0, 0, 0, 0},
		},
	} {
		for i, want := range tt.waits {
			if got := tt.b.Next(tt.lived); got.Truncate(ms) != want {
				t.Errorf("%s: after failure %d %v, want %v", tt.name, i+1, got, want)
			}
		}
	}
}

// TestManyFailures: their number has no bounds, the wait has, and so has the time in which they are forgotten.
func TestManyFailures(t *testing.T) {
	t.Parallel()
	b := Backoff{Free: 1, First: 100 * ms, Max: 10 * time.Second, Half: minute}
	forEver := Backoff{First: 100 * ms, Max: 10 * time.Second}
	for range 100_000 {
		if b.Next(0); forEver.Next(0) > forEver.Max {
			t.Fatal("too long")
		}
	}
	if forEver.Failures != 100_000 {
		t.Errorf("%v are counted", forEver.Failures)
	}
	if got := b.Next(0); got != b.Max {
		t.Errorf("in the end %v", got)
	}
	if got := b.Next(3 * minute); got <= 0 || got > 200*ms {
		t.Errorf("three halvings later %v", got)
	}
	if got := b.Next(5 * minute); got != 0 {
		t.Errorf("five more halvings later %v", got)
	}
}

// TestClockThatWasSetBack: nothing has lived for less than no time.
func TestClockThatWasSetBack(t *testing.T) {
	t.Parallel()
	b := Backoff{First: 100 * ms, Max: time.Second, Half: time.Nanosecond}
	b.Next(0)
	if got := b.Next(-time.Hour); got != 200*ms || math.IsInf(b.Failures, 0) {
		t.Errorf("%v, %+v", got, b)
	}
}
