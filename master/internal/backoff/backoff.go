// Package backoff says how long to wait before something that keeps failing is tried again.
package backoff

import (
	"math"
	"time"
)

// Backoff counts failures, and forgets them. Some are free; the next one costs First, and from then on the wait doubles
// with each, up to Max.
type Backoff struct {
	Free       float64
	First, Max time.Duration
	Half       time.Duration // in which half of the failures are forgotten; 0: none is

	// Failures are those that are not forgotten yet.
	Failures float64
}

// Next counts one more failure, of what had lived for a while since the one before, and returns how long to wait.
func (b *Backoff) Next(lived time.Duration) time.Duration {
	b.Failures = b.after(lived) + 1
	beyond := b.Failures - b.Free - 1
	switch {
	case beyond < -0.5: // less than half a failure beyond those that are free
		return 0
	case beyond >= b.doublings():
		return b.Max
	}
	return time.Duration(float64(b.First) * math.Exp2(beyond))
}

// after is what will be left of the failures. Those that could not make the wait longer any more do not take longer to
// be forgotten either.
func (b *Backoff) after(lived time.Duration) float64 {
	if b.Half == 0 {
		return b.Failures
	}
	return min(b.Failures, b.Free+1+b.doublings()) * math.Exp2(-float64(max(0, lived))/float64(b.Half))
}

// doublings lead from First to Max.
func (b *Backoff) doublings() float64 { return math.Log2(float64(b.Max) / float64(b.First)) }
