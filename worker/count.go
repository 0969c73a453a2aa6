package worker

import "sync/atomic"

// RequestCount counts the requests that a worker process has answered, and notices when they are as many as the
// configuration wants of one process (master.Config.MaxRequests).
type RequestCount struct {
	n       atomic.Int64
	limit   int64         // 0: none
	reached chan struct{} // gets a value at the limit; nil without one
}

// limitTo is called before anybody counts.
func (c *RequestCount) limitTo(n int64) {
	if n > 0 {
		c.limit, c.reached = n, make(chan struct{}, 1)
	}
}

// Add counts delta more. It never blocks.
func (c *RequestCount) Add(delta int64) {
	n := c.n.Add(delta)
	if c.limit == 0 || n < c.limit || n-delta >= c.limit {
		return
	}
	select {
	case c.reached <- struct{}{}:
	default:
	}
}

// Load is how many there were.
func (c *RequestCount) Load() int64 { return c.n.Load() }
