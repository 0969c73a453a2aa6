package httpworker

import (
	"net/http"

	"golang.org/x/sys/unix"
)

// lastWord is called when a handler has returned, on the connection's goroutine. If net/http closes the connection behind
// what is left of the response, the two wait for each other: one segment instead of two, one wake-up of the client.
// A body that was not read may keep net/http from the close, so then nothing waits.
func (c *conn) lastWord(r *http.Request, last bool) {
	if !r.Close && !last || r.ProtoMajor != 1 || r.ContentLength != 0 {
		return
	}
	if _, plain := c.socket.(stream); !plain {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.hijacked && !c.closing {
		c.corked = true
		c.setCork(1)
	}
}

// uncork sends what waits: the connection goes on after all.
func (c *conn) uncork() {
	if c.corked {
		c.corked = false
		c.setCork(0)
	}
}

func (c *conn) setCork(on int) {
	if raw, err := c.socket.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, on) })
	}
}
