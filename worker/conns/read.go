package conns

import (
	"errors"
	"io"
	"os"
	"time"
)

// step is what Read does next.
type step uint8

const (
	stepRead  step = iota
	stepPoll       // without waiting
	stepOffer      // to another worker
	stepMoved
	stepEnd // nothing came in time
)

// Read reads from the connection, within the limits of its phase. See [Conn.Idle].
func (c *Conn) Read(p []byte) (int, error) {
	for {
		switch c.next(len(p)) {
		case stepRead:
		case stepPoll:
			if n := c.poll(p); n > 0 {
				return n, nil
			}
			continue
		case stepOffer:
			c.offer()
			continue
		case stepMoved:
			return 0, ErrMoved
		case stepEnd: // a deadline that has passed keeps Read from looking at the socket at all
			if n := c.poll(p); n > 0 {
				return n, nil
			}
			c.countEnd()
			return 0, io.EOF
		}
		n, err := c.conn().Read(p)
		if n, again := c.read(p[:n], err); !again {
			return n, err
		}
	}
}

// next decides what a Read of so many bytes does.
func (c *Conn) next(asked int) step {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == moved:
		return stepMoved
	case c.phase == receiving:
		c.clock.messageRead(c.e.Limits.Message)
	case c.phase.waits():
		return c.nextWaiting(asked)
	default:
		var limit time.Duration
		if c.proto != nil && c.proto.InBody() {
			limit = c.e.Limits.Body
		}
		c.clock.read(limit)
	}
	return stepRead
}

// nextWaiting decides about a connection that waits for a message, whenever its Read is about to block.
func (c *Conn) nextWaiting(asked int) step {
	switch {
	case c.offers() && (!c.used || c.e.FullRead == 0 || asked == c.e.FullRead):
		c.is(offered)
		return stepOffer
	case c.phase == fresh: // it mostly has its message with it, and a timer costs more than a look
		c.is(polled)
		return stepPoll
	}
	look := c.retry
	if passed(look) { // and nobody is to have the connection: it is woken when that changes
		look = time.Time{}
	}
	if c.wish == wishEvict || !c.clock.waitingRead(c.e.WaitLimit(), look) {
		return stepEnd
	}
	return stepRead
}

// read accounts for what a Read of the socket gave; again means that it gave nothing and the time is not up.
func (c *Conn) read(p []byte, err error) (n int, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) > 0 {
		n = c.took(p)
		return n, n == 0
	}
	timeout := errors.Is(err, os.ErrDeadlineExceeded)
	if timeout && !c.expired() {
		return 0, true
	}
	c.peerGone = c.peerGone || err != nil && !(timeout && c.phase == active)
	return 0, false
}

// expired reports whether a deadline that has fired is the phase's.
func (c *Conn) expired() bool {
	switch {
	case c.phase.waits():
		return passed(c.clock.user) // of the others nextWaiting knows
	case c.phase != receiving:
		return c.clock.expired()
	case !passed(c.clock.message):
		return false
	}
	_ = c.closeWrite() // or net/http may answer: it takes the line that breaks off for a complete one
	return true
}

func (c *Conn) took(p []byte) int {
	n, began, event := len(p), true, completes
	if c.proto != nil {
		n, began = c.proto.Take(p)
		event = begins
	}
	c.clock.body = time.Time{}
	if began && c.is(event) {
		c.used = true
		c.clock.since, c.clock.waiting = time.Time{}, time.Time{}
	}
	return n
}

// poll reads without waiting.
func (c *Conn) poll(p []byte) (n int) {
	if c.tls != nil {
		n = c.tls.poll(p)
	} else {
		n = poll(c.sock, p)
	}
	if n == 0 {
		return 0
	}
	n, _ = c.read(p[:n], nil)
	return n
}

// countEnd counts a connection that is closed because no message has come. At a stop, and when there is no room, that
// is earlier than its client could expect.
func (c *Conn) countEnd() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peerGone = true
	switch {
	case c.e.Stopping():
		c.e.Counters.CutConns.Add(1)
	case c.wish == wishEvict:
		c.e.Counters.Evicted.Add(1)
	}
}
