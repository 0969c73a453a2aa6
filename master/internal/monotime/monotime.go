// Package monotime is the machine's monotonic clock, on which all processes agree: a time.Time loses its monotonic part
// on the way from one process to another, and the clock on the wall may be set.
package monotime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Time is a point on the clock, in nanoseconds. 0 is none.
type Time int64

// Now is the present.
func Now() Time {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return Time(ts.Nano())
}

// Add is the time d after t.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub is how long after u t is.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Earliest is the first of several times that are set, or 0.
func Earliest(times ...Time) (first Time) {
	for _, t := range times {
		if first == 0 || t != 0 && t < first {
			first = t
		}
	}
	return first
}
