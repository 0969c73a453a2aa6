package httpworker

import (
	"net/http"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// cork is called when a handler has returned, on the connection's goroutine. If net/http closes the connection behind
// what is left of the response, the two wait for each other: one segment instead of two, and one wake-up of the
// client. That is worth a tenth of the CPU of a new connection. A body that was not read may keep net/http from the
// close, so then nothing waits.
func (c *conn) cork(r *http.Request) {
	if c.state != nil || r.ContentLength != 0 || !r.Close && c.reply != replyLast || !c.Answering() {
		return
	}
	c.corked = true
	c.setCork(1)
}

// uncork sends what waits: the connection goes on after all.
func (c *conn) uncork() {
	if c.corked {
		c.corked = false
		c.setCork(0)
	}
}

func (c *conn) setCork(on int) {
	_ = rawfd.Control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, on) })
}
