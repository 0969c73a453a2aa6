package mastertest

import (
	"testing"
	"time"
)

// Timeout is how long the Await functions wait for what should come at once. It is not a measure of speed: it is
// only ever used up by a test that fails.
const Timeout = 30 * time.Second

// pollInterval is how often the Await functions ask.
const pollInterval = 5 * time.Millisecond

// Await asks until the answer is yes. It fails the test after [Timeout]; then what, called late, says what was
// waited for.
func Await(tb testing.TB, what func() string, ask func() bool) {
	tb.Helper()
	AwaitFor(tb, Timeout, what, ask)
}

// AwaitFor is [Await] with a deadline of its own.
func AwaitFor(tb testing.TB, d time.Duration, what func() string, ask func() bool) {
	tb.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !ask() {
		select {
		case <-deadline.C:
			tb.Fatalf("after %v still waiting for %s", d, what())
		case <-tick.C:
		}
	}
}

// Text is the what of an [Await] that needs no look back.
func Text(what string) func() string { return func() string { return what } }
