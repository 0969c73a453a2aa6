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

// run waits for this connection's turn and closes it.
func (c *closer) run(ctx context.Context) {
	if code, reason, deadline, ok := awaitTurn(ctx, c.over); ok {
		c.close(code, reason, deadline)
	}
}

// turn returns when a connection is closed in a drain of that length: in its last third, but for a margin. chance is
// from 0 to 1.
func turn(drain time.Duration, chance float64) time.Duration {
	last := drain - min(maxMargin, drain/6)
	first := drain * 2 / 3
	return first + time.Duration(chance*float64(last-first))
}

// awaitTurn waits until a connection is to be closed in a drain, and says how. When the deadline moves closer the
// turn is another one. It returns false when over is closed before that.
func awaitTurn(
	ctx context.Context, over <-chan struct{},
) (code ws.StatusCode, reason string, deadline time.Time, ok bool) {
	stopping, chance := httpworker.Stopping(ctx), rand.Float64()
	for {
		moved, deadline := httpworker.DeadlineMoved(ctx), httpworker.Deadline(ctx)
		select {
		case <-stopping:
			deadline = httpworker.Deadline(ctx)
			select {
			case <-time.After(min(rand.N(stopSpread), time.Until(deadline)/2)):
				return ws.StatusGoingAway, "going away", deadline, true
			case <-over:
				return 0, "", deadline, false
			}
		case <-time.After(turn(time.Until(deadline), chance)):
			return ws.StatusServiceRestart, "service restart", deadline, true
		case <-moved:
		case <-over:
			return 0, "", deadline, false
		}
	}
}

// close closes the connection at a moment when no message is half received or unanswered. If there is none for long,
// the message that is being received is cut off.
func (c *closer) close(code ws.StatusCode, reason string, deadline time.Time) {
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
