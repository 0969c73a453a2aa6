package worker

import (
	"sync/atomic"

	"baton/worker/conns"
)

// Counters is what a worker process counts; `baton status` shows it. A Worker adds to it.
type Counters struct {
	Requests RequestCount // answered
	conns.Counters
}

// RequestCount counts the requests that a worker process has answered, and notices when they are as many as the
// configuration wants of one process (master.Config.MaxRequests).
type RequestCount struct {
	n       atomic.Int64
	limit   int64         // 0: none
	reached chan struct{} // closed at the limit
}

// Add counts delta more. It never blocks.
func (c *RequestCount) Add(delta int64) {
	if n := c.n.Add(delta); c.limit > 0 && n >= c.limit && n-delta < c.limit {
		close(c.reached)
	}
}

// Load is how many there were.
func (c *RequestCount) Load() int64 { return c.n.Load() }
