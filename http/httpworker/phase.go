package httpworker

import (
	"net/http"
	"time"
)

// onState follows net/http through a connection's life. It is called on the goroutine that serves the connection.
//
// StateActive comes when a request's header is complete (or wrong), StateIdle before net/http reads what follows.
func (c *conn) onState(state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateActive:
		c.begin()
	case http.StateIdle:
		c.uncork()
		c.finish()
	case http.StateHijacked:
		c.finish()
		c.hijacked = true
		c.frame.part = partOpaque
		_ = c.clock.arm(c.clock.user)
		c.out.setLimit(0)
	case http.StateNew, http.StateClosed:
	}
}

func (c *conn) begin() {
	if !c.active && !c.closed {
		c.active = true
		c.s.env.Counters.Active.Add(1)
	}
}

func (c *conn) finish() {
	c.leave()
	c.handled, c.unmoved = false, false
	c.clock.user = time.Time{}
	if c.frame.part != partHead {
		c.untrue = true
		c.frame.next()
	}
}

// leave ends the active phase, for whatever reason.
func (c *conn) leave() {
	if c.active {
		c.active = false
		c.s.env.Counters.Active.Add(-1)
	}
}

// moves reports whether the connection will be taken away when it is idle, so that nothing needs to end it.
func (c *conn) moves() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s.moving() && !c.kept && c.wantedElsewhere()
}

// handle is called when a request's handler is about to run. last says whether its response is the
// connection's last. If the request is to be refused it returns why; then the response must be the last.
func (c *conn) handle(r *http.Request, last bool) (refusal string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	refusal = c.frame.faults.refusal(r)
	c.handled = true
	c.last = c.last || last || refusal != ""
	c.frame.body(r.ContentLength)
	return refusal
}
