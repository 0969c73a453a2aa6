package keeper

import "time"

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

// How soon a master that has died is started again, while its workers serve on.
const (
	restartFree  = 4                      // so many times at once
	restartFirst = 100 * time.Millisecond // then after this, and twice as long each time
	restartMax   = 10 * time.Second
	// restartForgive is how long a master must have served to make up for one death.
	restartForgive = 500 * time.Millisecond
)

// backoff remembers deaths that nothing has made up for.
type backoff struct{ deaths int }

// crashed notes the death of a master that had served for so long, and returns how long to wait with the next one.
func (b *backoff) crashed(served time.Duration) time.Duration {
	forgiven := min(int64(served/restartForgive), int64(b.deaths))
	b.deaths += 1 - int(forgiven)
	if b.deaths <= restartFree {
		return 0
	}
	return min(restartMax, restartFirst<<min(b.deaths-restartFree-1, 10))
}
