package master

import (
	"testing"

	"baton/worker/seqpacket"
)

// fakeMaster is a master without workers whose supervisor never answers.
func fakeMaster(t *testing.T, cfg Config) (m *master) {
	t.Helper()
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*seqpacket.Conn
	for i, fd := range []int{ours, theirs} {
		if ends[i], err = seqpacket.New(fd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	m = newMaster(Options{}, nil, nowhere)
	m.cfg, m.gen, m.desired, m.phase, m.supervisor, m.dir = cfg, 1, cfg.Workers, phaseCurrent, ends[0], t.TempDir()
	t.Cleanup(m.sockets.Close)
	return m
}

// TestResizeTellsTheTruth: an error, or it is so.
func TestResizeTellsTheTruth(t *testing.T) {
	t.Parallel()
	m := fakeMaster(t, Config{Workers: 3})
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
