package supervisor

import (
	"testing"
	"time"
)

// Two signals within half a second are one: timeout, shells and init send it to the process and to its group.
func TestIsSecond(t *testing.T) {
	t.Parallel()
	first := time.Now()
	for _, tt := range []struct {
		name  string
		first time.Time
		after time.Duration
		want  bool
	}{
		{"there was none", time.Time{}, 0, false},
		{"at the same time", first, 0, false},
		{"microseconds later", first, 20 * time.Microsecond, false},
		{"just the same", first, sameSignal - 1, false},
		{"another", first, sameSignal, true},
		{"much later", first, time.Hour, true},
	} {
		if got := isSecond(tt.first, first.Add(tt.after)); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// Only a second signal kills. A stop by the control socket joins, and is joined.
func TestWhatKills(t *testing.T) { // not beside others: it kills the children of this process
	signal := func(name string, after time.Duration) func(sv *supervisor, at time.Time) {
		return func(sv *supervisor, at time.Time) { sv.signalled(name, false, at.Add(after)) }
	}
	control := func(sv *supervisor, _ time.Time) { sv.stop("control", false) }
	const soon, later = 10 * time.Millisecond, time.Minute
	for name, tt := range map[string]struct {
		events []func(sv *supervisor, at time.Time)
		kills  bool
	}{
		"TERM": {[]func(*supervisor, time.Time){signal("TERM", 0)}, false},
		"TERM TERM at once": {
			[]func(*supervisor, time.Time){signal("TERM", 0), signal("TERM", soon)}, false,
		},
		"INT TERM at once": {
			[]func(*supervisor, time.Time){signal("INT", 0), signal("TERM", soon)}, false,
		},
		"TERM TERM": {
			[]func(*supervisor, time.Time){signal("TERM", 0), signal("TERM", later)}, true,
		},
		"INT TERM": {
			[]func(*supervisor, time.Time){signal("INT", 0), signal("TERM", later)}, true,
		},
		"stop stop stop": {[]func(*supervisor, time.Time){control, control, control}, false},
		"TERM stop":      {[]func(*supervisor, time.Time){signal("TERM", 0), control}, false},
		"stop TERM":      {[]func(*supervisor, time.Time){control, signal("TERM", later)}, false},
		"stop TERM TERM at once": {
			[]func(*supervisor, time.Time){control, signal("TERM", 0), signal("TERM", soon)}, false,
		},
		"stop TERM TERM": {
			[]func(*supervisor, time.Time){control, signal("TERM", 0), signal("TERM", later)}, true,
		},
		"the terminal twice, and a TERM": {
			[]func(*supervisor, time.Time){control, control, signal("TERM", later)}, false,
		},
	} {
		sv := testSupervisor(t)
		begin := time.Now()
		for _, event := range tt.events {
			event(sv, begin)
		}
		if (sv.stopping.phase == stopKilling) != tt.kills || !sv.stopping.begun() {
			t.Errorf("%s: killing %v, want %v, stopping %v", name, (sv.stopping.phase == stopKilling), tt.kills,
				sv.stopping.begun())
		}
	}
}
