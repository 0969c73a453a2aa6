package httpworker

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
)

// mostShed is how many idle connections are closed at once for new ones, and idleShare of how many one is: the numbers are
// nginx's.
const (
	mostShed  = 32
	idleShare = 8
)

// newGrace is how long a new connection may be silent before it counts as idle: its client may just not have come to write
// its request.
const newGrace = time.Second

// shed closes the connections that have waited longest for a request, because others wait that there is no room for. A
// request that has come just in time is served all the same. HTTP/2 connections are not closed.
func (s *server) shed() {
	if s.shedding.Load() > 0 {
		return // those of the last time are still about to close
	}
	idle := s.idle()
	n := len(idle)
	if s.lot != nil {
		n += s.lot.park.Len()
	}
	n = max(1, min(mostShed, n/idleShare))
	if s.lot != nil {
		n -= s.lot.shed(n) // they have been silent since before they came here
	}
	for _, c := range idle[:min(n, len(idle))] {
		c.shed()
	}
}

// idle are the connections that wait for a request, those first that have waited longest.
func (s *server) idle() []*conn {
	type waiting struct {
		c   *conn
		end time.Time
	}
	var all []waiting
	fresh := time.Now().Add(s.waitLimit() - newGrace)
	for _, c := range s.all() {
		end, used := c.waitingEnd()
		if !end.IsZero() && (used || end.Before(fresh)) {
			all = append(all, waiting{c, end})
		}
	}
	slices.SortFunc(all, func(a, b waiting) int { return a.end.Compare(b.end) })
	idle := make([]*conn, len(all))
	for i := range all {
		idle[i] = all[i].c
	}
	return idle
}

// waitingEnd is when a connection that waits for a request will have waited too long. It is zero for all others. used: it
// has had a request before.
func (c *conn) waitingEnd() (end time.Time, used bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.shaking:
		if end = c.tls.silentUntil(); !end.IsZero() { // as if it might be silent as long as the others
			end = end.Add(max(0, c.s.waitLimit()-handshakeTimeout))
		}
		return end, false
	case c.active, c.hijacked, c.closing, c.h2 != nil, c.frame.began():
		return time.Time{}, false
	}
	return c.clock.waiting, c.used
}

// shed makes a connection that waits close, on its own goroutine, unless something has come.
func (c *conn) shed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.shaking:
		c.tls.hurry(0)
	case !c.active && !c.hijacked && !c.closing && !c.frame.began() && !c.unwanted:
		c.unwanted = true
		c.s.shedding.Add(1)
		c.clock.expire()
	}
}

func (c *conn) isUnwanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unwanted
}

// wanted takes shed back: a request has come, or it is done.
func (c *conn) wanted() {
	if c.unwanted {
		c.unwanted = false
		c.s.shedding.Add(-1)
	}
}

// shed closes up to n of those that wait, and returns how many.
func (l *lot) shed(n int) int {
	all := l.park.Take(n)
	for _, c := range all {
		if sentSomething(c) {
			go l.ready(c)
			continue
		}
		_ = unix.Close(c.FD)
		l.s.env.Counters.Shed.Add(1)
		l.left()
	}
	return len(all)
}

func sentSomething(c handover.Conn) bool {
	var b [1]byte
	n, _, _ := unix.Recvfrom(c.FD, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n > 0
}
