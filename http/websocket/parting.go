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
	maxMargin  = 2 * time.Second        // before the deadline nothing more is begun: a close takes a round trip
	stopSpread = 700 * time.Millisecond // when the program stops, all are closed within this
	quietLimit = time.Second            // how long a client that is sending a message may go on with it
)

// parting closes one connection in a drain.
type parting struct {
	conn *ws.Conn
	tap  *tap
	over chan struct{} // closed when there is nothing to close any more
}

// run waits for this connection's turn and closes it. When the deadline moves closer the turn is another one.
func (p *parting) run(ctx context.Context) {
	stopping, chance := httpworker.Stopping(ctx), rand.Float64()
	for {
		moved, deadline := httpworker.DeadlineMoved(ctx), httpworker.Deadline(ctx)
		select {
		case <-stopping:
			p.leave(ctx)
			return
		case <-time.After(turn(time.Until(deadline), chance)):
			p.close(ws.StatusServiceRestart, "service restart", deadline)
			return
		case <-moved:
		case <-p.over:
			return
		}
	}
}

// leave closes the connection soon: the program stops.
func (p *parting) leave(ctx context.Context) {
	deadline := httpworker.Deadline(ctx)
	select {
	case <-time.After(min(rand.N(stopSpread), time.Until(deadline)/2)):
		p.close(ws.StatusGoingAway, "going away", deadline)
	case <-p.over:
	}
}

// turn is when a connection is closed in a drain of that length: in its last third, but for a margin. chance is from 0
// to 1.
func turn(drain time.Duration, chance float64) time.Duration {
	last := drain - min(maxMargin, drain/6)
	first := drain * 2 / 3
	return first + time.Duration(chance*float64(last-first))
}

// close says the code, at a moment when no message is half received or unanswered. If there is none for long, the
// message that is being received is cut off.
func (p *parting) close(code ws.StatusCode, reason string, deadline time.Time) {
	p.tap.hold()
	select {
	case <-p.tap.quiet:
		p.tap.writing.Store(true)
	case <-time.After(max(quietLimit, time.Until(deadline)/2)):
		p.tap.giveUp()
	case <-p.over:
		return
	}
	_ = p.conn.Close(code, reason)
}
