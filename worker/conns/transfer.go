package conns

import (
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
	"baton/worker/rawfd"
)

const (
	// offerAgain is after how long an idle connection that nobody has taken is offered again.
	offerAgain = 5 * time.Second
	// resourcePause is how long a connection waits when the process is out of descriptors.
	resourcePause = 50 * time.Millisecond
)

// Connections are moved moveChunk at a time, and no more than maxOffered are between two workers: the others are served
// meanwhile.
const (
	moveChunk  = 199
	maxOffered = 2 * moveChunk
)

// move has everything moved that can be, and again when others take than before, until the drain has ended.
func (e *Engine) move(ended <-chan struct{}) {
	for e.moving() {
		others := e.Handover.Changed()
		e.moveAll()
		select {
		case <-others:
		case <-e.Stop:
		case <-ended:
			return
		}
	}
}

// moveAll offers what waits to the other workers. It takes its time: a connection that nobody has offered yet is
// served.
func (e *Engine) moveAll() {
	for chunk := range slices.Chunk(e.all(), moveChunk) {
		for _, c := range chunk {
			c.wake()
		}
		runtime.Gosched() // they offer themselves
		e.awaitAnswers()
	}
	for e.pool != nil && e.moving() {
		chunk := e.pool.Take(moveChunk)
		if len(chunk) == 0 {
			return
		}
		e.giveParked(chunk)
		e.awaitAnswers()
	}
}

// awaitAnswers waits until more may be offered.
func (e *Engine) awaitAnswers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.offered > maxOffered {
		e.answered.Wait()
	}
}

// Share gives some connections to others, though the worker serves on, those first that wait; part says how many of n.
func (e *Engine) Share(part func(n int) int) {
	if e.Draining() {
		return
	}
	if e.pool != nil {
		e.giveParked(e.pool.Take(part(e.pool.Len())))
	}
	all := e.all()
	n := part(len(all))
	for _, c := range slices.Concat(e.idle(), all) {
		if n > 0 && c.leaveWhenIdle() {
			n--
		}
	}
}

// leaveWhenIdle has the connection move as soon as it waits for a message, and reports whether it may.
func (c *Conn) leaveWhenIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wish != wishNone || c.phase == handshaking || c.phase == detached || c.phase.ends() || !c.wanted() {
		return false
	}
	c.wish = wishLeave
	if c.phase.waits() {
		c.declined, c.retry = declinedNot, time.Time{}
		c.clock.expire()
	}
	return true
}

// wanted reports that nothing but a message on it keeps the connection from moving.
func (c *Conn) wanted() bool { return c.from.Moves && c.e.Handover.HasTaker(c.from.Key) }

// offers reports whether the connection is to be offered to others, now that it waits.
func (c *Conn) offers() bool {
	return (c.wish == wishLeave || c.e.moving()) && (c.declined == declinedNot || passed(c.retry)) && c.wanted()
}

// Moves reports whether the connection will be given to another worker when it waits, so that nothing needs to end it.
func (c *Conn) Moves() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.e.moving() && c.declined != declinedByAll && c.wanted()
}

// offer gives a connection away that waits, and waits for the answer; a Write waits for that, too.
func (c *Conn) offer() {
	c.writing.Lock()
	defer c.writing.Unlock()
	given, err := c.give()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wish == wishLeave && !rawfd.Exhausted(err) {
		c.wish = wishNone
	}
	switch {
	case given:
		c.is(taken)
		c.gone.Store(true)
		return
	case rawfd.Exhausted(err): // after a while others have left
		c.declined, c.retry = declinedForNow, time.Now().Add(resourcePause)
	default:
		c.declined, c.retry = declinedByAll, time.Now().Add(offerAgain)
	}
	c.is(refused)
}

func (c *Conn) give() (taken bool, err error) {
	fd, err := rawfd.Of(c.sock)
	if err != nil {
		return false, err
	}
	if rawfd.NearLimit(fd) { // what is left is needed to send this one
		_ = unix.Close(fd)
		return false, unix.EMFILE
	}
	answer := make(chan bool, 1)
	c.e.give(handover.Conn{FD: fd, Key: c.from.Key, Idle: c.idleLeft()}, func(taken bool) {
		_ = unix.Close(fd)
		answer <- taken
	})
	return <-answer, nil
}

func (c *Conn) idleLeft() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock.left(c.e.Limits.Idle)
}

// give offers a connection, whose descriptor is answer's from then on.
func (e *Engine) give(c handover.Conn, answer func(taken bool)) {
	e.mu.Lock()
	e.offered++
	e.mu.Unlock()
	e.Handover.Give(handover.Offer{Conn: c, Done: func(taken bool) {
		e.mu.Lock()
		e.offered--
		e.answered.Broadcast()
		e.mu.Unlock()
		answer(taken)
	}})
}
