package websocket

import (
	"context"
	"math/rand/v2"
	"time"

	ws "github.com/coder/websocket"

	"baton/http/httpworker"
)

// How connections are closed in a drain.
const (
	maxMargin     = 2 * time.Second        // before the deadline nothing more is begun: a close takes a round trip
	stopSpread    = 700 * time.Millisecond // when the program stops, all are closed within this
	boundaryLimit = time.Second            // how long the end of a message that is being sent is waited for
)

// closer closes one connection in a drain.
type closer struct {
	conn *ws.Conn
	nc   *drainConn
	over chan struct{} // closed when there is nothing to close any more
}

// run waits for this connection's turn and closes it. When the deadline moves closer the turn is another one.
func (c *closer) run(ctx context.Context) {
	stopping, chance := httpworker.Stopping(ctx), rand.Float64()
	for {
		moved, deadline := httpworker.DeadlineMoved(ctx), httpworker.Deadline(ctx)
		select {
		case <-stopping:
			deadline = httpworker.Deadline(ctx)
			c.closeAfter(min(rand.N(stopSpread), time.Until(deadline)/2), ws.StatusGoingAway, "going away", deadline)
			return
		case <-time.After(turn(time.Until(deadline), chance)):
			c.closeAfter(0, ws.StatusServiceRestart, "service restart", deadline)
			return
		case <-moved:
		case <-c.over:
			return
		}
	}
}

// turn returns when a connection is closed in a drain of that length: in its last third, but for a margin. chance is
// from 0 to 1.
func turn(drain time.Duration, chance float64) time.Duration {
	last := drain - min(maxMargin, drain/6)
	first := drain * 2 / 3
	return first + time.Duration(chance*float64(last-first))
}

// closeAfter waits, and then closes the connection at a moment when no message is half received or unanswered. If there
// is none for long, the message that is being received is cut off.
func (c *closer) closeAfter(wait time.Duration, code ws.StatusCode, reason string, deadline time.Time) {
	select {
	case <-time.After(wait):
	case <-c.over:
		return
	}
	c.nc.hold()
	select {
	case <-c.nc.boundary:
	case <-time.After(max(boundaryLimit, time.Until(deadline)/2)):
		c.nc.giveUp()
	case <-c.over:
		return
	}
	_ = c.conn.Close(code, reason)
}
