package supervisor

import (
	"time"

	"baton/master/internal/backoff"
)

// A storm is stormSize requests within stormWindow. In a storm a reload starts at most every stormPace: what came in
// between is served by it. Requests that come slower start their reload at once.
const (
	stormSize   = 4
	stormWindow = 200 * time.Millisecond
	stormPace   = 500 * time.Millisecond
)

// pace decides how fast reloads follow each other.
type pace struct {
	asked   []time.Time // the last stormSize requests that nobody waited for
	started time.Time   // the last reload
}

// ask notes a request by signal or by a changed file. Those who wait for their answer before they ask again pace
// themselves.
func (p *pace) ask(now time.Time) {
	p.asked = append(p.asked, now)
	if len(p.asked) > stormSize {
		p.asked = p.asked[1:]
	}
}

// wait is how long the next reload is to be held back.
func (p *pace) wait(now time.Time) time.Duration {
	storm := len(p.asked) == stormSize && p.asked[stormSize-1].Sub(p.asked[0]) < stormWindow
	if !storm {
		return 0
	}
	return max(0, p.started.Add(stormPace).Sub(now))
}

// restartBackoff is how soon a master that has died is started again, while its workers serve on: four times at once, then
// with growing pauses. A few seconds of service make up for all deaths.
var restartBackoff = backoff.Backoff{Free: 4, First: 100 * time.Millisecond, Max: 10 * time.Second, Half: 2 * time.Second}
