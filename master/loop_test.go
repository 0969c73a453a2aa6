package master

import (
	"testing"
	"time"

	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// TestReconcileLooksAtWhatItHasDone: a worker that was told to drain has a deadline, which somebody must look at if the
// worker never says anything again.
func TestReconcileLooksAtWhatItHasDone(t *testing.T) {
	t.Parallel()
	m := fakeMaster(t, Config{Workers: 1, DrainTimeout: time.Minute})
	heard := serveSlots(t, m, 2)
	now := monotime.Now()
	next := m.reconcile(now)
	if kinds := heard(1); len(kinds) == 0 || kinds[0] != "drain" {
		t.Fatalf("the worker of a slot that is no more was told %q", kinds)
	}
	if wait := next.Sub(now); next == 0 || wait < time.Minute || wait > 2*time.Minute {
		t.Errorf("it looks again in %v", wait)
	}
	if again := m.reconcile(now); again != next {
		t.Errorf("nothing has happened, and it looks again in %v instead of %v", again.Sub(now), next.Sub(now))
	}
}

// serveSlots gives a fake master workers that serve in the slots up to n. heard returns the kinds of what the one in
// a slot was told since the last call.
func serveSlots(t *testing.T, m *master, n int) (heard func(slot int) []string) {
	t.Helper()
	var ends []*seqpacket.Conn
	for slot := range n {
		ours, theirs, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		p := &proc{Worker: plan.Worker{PID: 1 << 30, Generation: m.gen, Slot: slot, State: plan.Serving}}
		p.PID += slot
		if p.conn, err = seqpacket.New(ours); err != nil {
			t.Fatal(err)
		}
		end, err := seqpacket.New(theirs)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.conn.Close(); _ = end.Close() })
		ends = append(ends, end)
		m.procs[p.PID] = p
	}
	return func(slot int) []string {
		t.Helper()
		_ = m.procs[1<<30+slot].conn.Post(wire.Go{})
		var kinds []string
		for {
			p, err := ends[slot].Recv()
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
			if p.Frame.T == (wire.Go{}).Kind() {
				return kinds
			}
			kinds = append(kinds, p.Frame.T)
		}
	}
}
