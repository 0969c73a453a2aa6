package supervisor

import "time"

// A burst is burstSize requests within burstWindow. In a burst a reload starts at most every burstPause: what came in
// between is served by it. Requests that come slower start their reload at once.
const (
	burstSize   = 4
	burstWindow = 200 * time.Millisecond
	burstPause  = 500 * time.Millisecond
)

// reloadLimiter decides how fast reloads follow each other.
type reloadLimiter struct {
	at time.Time // the next reload may start; zero: none waits

	Recorded []time.Time `json:"recorded"` // the last burstSize requests that nobody waited for
	Started  time.Time   `json:"started"`  // the last reload
}

// record notes a request by a signal or by a changed file. Clients that wait for their answer before they ask again
// limit themselves.
func (l *reloadLimiter) record(now time.Time) {
	l.Recorded = append(l.Recorded, now)
	if len(l.Recorded) > burstSize {
		l.Recorded = l.Recorded[1:]
	}
}

// delay returns how long the next reload has to wait.
func (l *reloadLimiter) delay(now time.Time) time.Duration {
	burst := len(l.Recorded) == burstSize && l.Recorded[burstSize-1].Sub(l.Recorded[0]) < burstWindow
	if !burst {
		return 0
	}
	return max(0, l.Started.Add(burstPause).Sub(now))
}

// allow reports whether a reload may start now, which it then does; else at says when.
func (l *reloadLimiter) allow(now time.Time) bool {
	if wait := l.delay(now); wait > 0 {
		l.at = now.Add(wait)
		return false
	}
	l.at, l.Started = time.Time{}, now
	return true
}
