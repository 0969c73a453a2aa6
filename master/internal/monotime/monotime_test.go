package monotime

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestEarliest(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		times []Time
		want  Time
	}{
		{nil, 0},
		{[]Time{0, 0}, 0},
		{[]Time{0, 5}, 5},
		{[]Time{5, 0}, 5},
		{[]Time{5, 3, 0, 4}, 3},
	} {
		if got := Earliest(tt.times...); got != tt.want {
			t.Errorf("of %v: %v, want %v", tt.times, got, tt.want)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	if low, at, high := clock(), Now(), clock(); at < low.Add(-time.Millisecond) || at > high.Add(time.Millisecond) {
		t.Errorf("at %d, and the machine's clock went from %d to %d", at, low, high)
	}
	before := Now()
	for Now() == before { // it goes on
	}
	if d := Now().Sub(before); d <= 0 {
		t.Errorf("later it is %v later", d)
	}
	if at := before.Add(time.Second); at.Sub(before) != time.Second {
		t.Errorf("a second after %d: %d", before, at)
	}
}

func TestVirtualClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		before := Now()
		time.Sleep(time.Hour)
		if d := Now().Sub(before); d != time.Hour {
			t.Errorf("an hour later it is %v later", d)
		}
	})
}
