package worker

import "testing"

// TestPhases walks the table: each line is a phase and what follows on READY, GO, a drain, end-of-file, and the end of
// Serve. "-" is the same phase.
func TestPhases(t *testing.T) {
	t.Parallel()
	names := map[string]phase{
		"starting": phaseStarting, "ready": phaseReady, "serving": phaseServing, "draining": phaseDraining,
		"cancelled": phaseCancelled, "done": phaseDone,
	}
	lines := map[string][events]string{
		"starting":  {"ready", "serving", "cancelled", "done", "done"},
		"ready":     {"-", "serving", "cancelled", "done", "done"},
		"serving":   {"-", "-", "draining", "draining", "done"},
		"draining":  {"-", "-", "-", "-", "done"},
		"cancelled": {"-", "draining", "-", "done", "done"},
		"done":      {"-", "-", "-", "-", "-"},
	}
	if len(lines) != int(phases) {
		t.Errorf("%d of %d phases", len(lines), phases)
	}
	for name, want := range lines {
		for e, w := range want {
			if w == "-" {
				w = name
			}
			p := process{phase: names[name]}
			if from := p.move(event(e)); from != names[name] || p.phase != names[w] {
				t.Errorf("%s, event %d: phase %d, want %s", name, e, p.phase, w)
			}
		}
	}
}
