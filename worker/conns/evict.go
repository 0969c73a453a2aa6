package conns

import (
	"slices"
	"time"
)

// mostEvicted is how many idle connections are closed at once for new ones, and idleShare of how many one is: the
// numbers are nginx's.
const (
	mostEvicted = 32
	idleShare   = 8
)

// newGrace is how long a new connection may be silent before it counts as idle: its client may just not have come to
// write its request.
const newGrace = time.Second

// Evict closes the connections that have waited longest for a message, because others wait that there is no room for. A
// message that has come just in time is served all the same. Detached connections are not closed.
func (e *Engine) Evict() {
	if e.evicting.Load() > 0 {
		return // those of the last time are still about to close
	}
	idle := e.idle()
	n := len(idle) + e.parked()
	n = max(1, min(mostEvicted, n/idleShare))
	n -= e.evictParked(n) // they have been silent since before they came here
	for _, c := range idle[:min(n, len(idle))] {
		c.evict()
	}
}

// idle are the connections that wait for a message, those first that have waited longest.
func (e *Engine) idle() []*Conn {
	type waiting struct {
		c     *Conn
		since time.Time
	}
	var all []waiting
	old := time.Now().Add(-newGrace)
	for _, c := range e.all() {
		since, used := c.waitingSince()
		if !since.IsZero() && (used || since.Before(old)) {
			all = append(all, waiting{c, since})
		}
	}
	slices.SortFunc(all, func(a, b waiting) int { return a.since.Compare(b.since) })
	idle := make([]*Conn, len(all))
	for i := range all {
		idle[i] = all[i].c
	}
	return idle
}

// waitingSince is when a connection has begun to wait for a message. It is zero for one that does not. used: it has had
// one before.
func (c *Conn) waitingSince() (since time.Time, used bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == handshaking:
		if end := c.tls.silentUntil(); !end.IsZero() {
			since = end.Add(-c.handshakeLimit())
		}
	case c.phase.waits():
		since = c.clock.since
	}
	return since, c.used
}

// evict makes a connection that waits close, on its own goroutine, unless something has come.
func (c *Conn) evict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == handshaking:
		c.tls.below.await(0)
	case c.phase.waits() && c.wish != wishEvict:
		c.wish = wishEvict
		c.e.evicting.Add(1)
		c.clock.expire()
	}
}
