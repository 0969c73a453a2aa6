package supervisor

import (
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		name    string
		asked   []time.Duration // since the last reload's start
		now     time.Duration
		waiting time.Duration
	}{
		{"nobody", nil, 0, 0},
		{"one", []time.Duration{0}, 0, 0},
		{"three at once", []time.Duration{10 * ms, 10 * ms, 10 * ms}, 10 * ms, 0},
		{"four at once", []time.Duration{10 * ms, 10 * ms, 10 * ms, 10 * ms}, 10 * ms, burstPause - 10*ms},
		{
			"four within the window",
			[]time.Duration{0, 60 * ms, 120 * ms, burstWindow - 1},
			burstWindow,
			burstPause - burstWindow,
		},
		{"four, one window long", []time.Duration{0, 60 * ms, 120 * ms, burstWindow}, burstWindow, 0},
		{"only the last four count", []time.Duration{0, 0, 0, 0, 0, 100 * ms, 200 * ms, 300 * ms}, 300 * ms, 0},
		{
			"calm, then a storm",
			[]time.Duration{0, 300 * ms, 301 * ms, 302 * ms, 303 * ms},
			303 * ms,
			burstPause - 303*ms,
		},
		{"the reloadLimiter is kept", []time.Duration{0, 0, 0, 0}, burstPause, 0},
		{"long after", []time.Duration{0, 0, 0, 0}, time.Hour, 0},
	} {
		begin := time.Now()
		p := reloadLimiter{Started: begin}
		for _, d := range tt.asked {
			p.record(begin.Add(d))
		}
		if got := p.delay(begin.Add(tt.now)); got != tt.waiting {
			t.Errorf("%s: held back for %v, want %v", tt.name, got, tt.waiting)
		}
	}
}

// Before the first reload there is none to keep a distance from.
func TestLimiterOfTheFirstReload(t *testing.T) {
	t.Parallel()
	var p reloadLimiter
	now := time.Now()
	for range 2 * burstSize {
		p.record(now)
	}
	if got := p.delay(now); got != 0 {
		t.Errorf("held back for %v", got)
	}
}
