package httpworker

import (
	"io"
	"time"
)

// lingerTime bounds how long a closing connection waits for its client to close as well.
const lingerTime = 2 * time.Second

// Close closes the connection such that what was written arrives. A close with unread bytes sends a reset, which may
// overtake the response; so behind a response that net/http's client did not ask to be the last, and behind an error,
// it reads on for a while and drops what it reads.
func (c *conn) Close() error {
	if c.lingers() {
		_ = c.socket.CloseWrite()
		_ = c.socket.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, c.socket)
	}
	return c.shut()
}

// lingers decides, once.
func (c *conn) lingers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.closing = true
	return !c.gone && !c.hijacked && !c.out.gaveUp() && (c.last || c.unanswered())
}

// unanswered reports that a request has begun, and that it did not come to a handler: net/http has refused it.
func (c *conn) unanswered() bool { return !c.handled && (c.active || c.frame.began()) }

// shut closes the socket at once. The connection is counted until then.
func (c *conn) shut() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed, c.closing, c.held = true, true, nil
	c.leave()
	c.mu.Unlock()
	if c.tls != nil && c.out.gaveUp() {
		c.tls.abort()
	}
	err := c.socket.Close()
	c.s.forget(c)
	return err
}

// cut closes the socket whatever is going on, and reports what that ended.
func (c *conn) cut() (requests int64, connection bool) {
	c.mu.Lock()
	switch {
	case c.closing:
	case c.h2 != nil:
		requests = c.streams.Load()
	case c.active || c.frame.began():
		requests = 1
	}
	connection = !c.closing
	c.mu.Unlock()
	if c.tls != nil {
		c.tls.abort()
	}
	_ = c.shut()
	return requests, connection
}
