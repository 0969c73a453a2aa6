package master

import (
	"testing"
	"time"

	"baton/master/internal/monotime"
)

// TestReconcileLooksAtWhatItHasDone: a worker that was told to drain has a deadline, which somebody must look at if the
// worker never says anything again.
func TestReconcileLooksAtWhatItHasDone(t *testing.T) {
	t.Parallel()
	m, _ := fakeMaster(t, Config{Workers: 1, DrainTimeout: time.Minute})
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
