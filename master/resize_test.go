package master

import "testing"

// TestResizeTellsTheTruth: an error, or it is so.
func TestResizeTellsTheTruth(t *testing.T) {
	t.Parallel()
	m := masterOf(phaseCurrent, 3)
	m.supervisor, _ = newPipe()
	for _, n := range []int{3, 4, 1, MaxWorkers} {
		if err := m.resize(n); err != nil || m.desired != n {
			t.Errorf("%d: %v; %d", n, err, m.desired)
		}
	}
	for _, n := range []int{0, -1, MaxWorkers + 1} {
		if err := m.resize(n); err == nil || m.desired != MaxWorkers {
			t.Errorf("%d: %v; %d", n, err, m.desired)
		}
	}
	m.phase = phaseStopping
	if err := m.resize(2); err == nil || m.desired != MaxWorkers {
		t.Errorf("while stopping: %v; %d", err, m.desired)
	}
}
