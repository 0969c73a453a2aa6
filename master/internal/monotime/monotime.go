// Package monotime is the machine's monotonic clock, on which all processes agree: a time.Time loses its monotonic part
// on the way from one process to another, and the clock on the wall may be set.
package monotime

import (
	"time"

	"golang.org/x/sys/unix"
)

// Time is a point on the clock, in nanoseconds. 0 is none.
type Time int64

// began is when this process looked at both clocks. Package time uses CLOCK_MONOTONIC itself, and a test can make its
// clock a virtual one.
var began, beganAt = bothClocks()

// bothClocks reads the clocks one right after the other: again if the process did not run in between.
func bothClocks() (time.Time, Time) {
	for tries := 0; ; tries++ {
		before, t, after := clock(), time.Now(), clock()
		if after.Sub(before) < 100*time.Microsecond || tries == 100 {
			return t, before
		}
	}
}

func clock() Time {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return Time(ts.Nano())
}

// Now is the present.
func Now() Time { return beganAt.Add(time.Since(began)) }

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
