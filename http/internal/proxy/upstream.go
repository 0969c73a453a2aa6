package proxy

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// maxHeader bounds the header of a response; an upstream whose header is larger has failed.
const maxHeader = 1 << 20

// An Upstream is a server, and the connections to it that wait for a request.
//
// Threading: all methods may be called from any goroutine. The exported fields must not change after the first request.
type Upstream struct {
	// Dial opens a connection.
	Dial func(ctx context.Context) (net.Conn, error)

	// Timeout bounds the wait for the upstream: until it takes what is sent, until it begins to respond once it has the
	// whole request, and between two reads of its response. 0 means no limit.
	Timeout time.Duration

	// IdleTimeout is how long a connection is kept without a request. It must be shorter than the upstream's own, or
	// requests meet a connection that is being closed.
	IdleTimeout time.Duration

	mu     sync.Mutex
	idle   []*conn // the last one used is the last
	closed bool
}

// conn is a connection to the upstream.
type conn struct {
	net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	expiry  *time.Timer // while it is idle
	budget  int         // how many bytes of a header may still be read; -1: this is no header
	written bool        // something of the current request was
}

// Read is bounded while a header is read.
func (c *conn) Read(p []byte) (int, error) {
	if c.budget == 0 {
		return 0, errHeaderTooLarge
	}
	if c.budget > 0 && len(p) > c.budget {
		p = p[:c.budget]
	}
	n, err := c.Conn.Read(p)
	if c.budget > 0 {
		c.budget -= n
	}
	return n, err
}

// Write notes that the upstream may have seen something.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written = c.written || n > 0
	return n, err
}

// get returns a connection that was kept, or a new one.
func (u *Upstream) get(ctx context.Context) (*conn, error) {
	for {
		c := u.pop()
		if c == nil {
			return u.dial(ctx)
		}
		if c.alive() {
			return c, nil
		}
		_ = c.Close()
	}
}

func (u *Upstream) pop() *conn {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.idle) == 0 {
		return nil
	}
	last := len(u.idle) - 1
	c := u.idle[last]
	u.idle[last] = nil
	u.idle = u.idle[:last]
	c.expiry.Stop() // if it has fired, it finds the connection gone
	return c
}

func (u *Upstream) dial(ctx context.Context) (*conn, error) {
	nc, err := u.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, budget: -1}
	c.r, c.w = bufio.NewReaderSize(c, bufferSize), bufio.NewWriterSize(c, 4<<10)
	return c, nil
}

// put keeps a connection for the next request.
func (u *Upstream) put(c *conn) {
	c.written, c.budget = false, -1
	_ = c.SetDeadline(time.Time{})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || c.r.Buffered() > 0 {
		_ = c.Close()
		return
	}
	u.idle = append(u.idle, c)
	if c.expiry == nil {
		c.expiry = time.AfterFunc(u.IdleTimeout, func() { u.expire(c) })
	} else {
		c.expiry.Reset(u.IdleTimeout)
	}
}

// expire closes a connection that has been idle for too long.
func (u *Upstream) expire(c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i := slices.Index(u.idle, c); i >= 0 {
		u.idle = slices.Delete(u.idle, i, i+1)
		_ = c.Close()
	}
}

// Close closes the idle connections; those in use are closed when their exchange has ended.
func (u *Upstream) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, c := range u.idle {
		c.expiry.Stop()
		_ = c.Close()
	}
	u.idle = nil
}

// alive reports whether an idle connection can take a request: the upstream has neither closed it nor said anything
// unasked. One in TLS may have sent session tickets.
func (c *conn) alive() bool {
	alive := true
	err := rawfd.Control(c.Conn, func(fd int) error {
		alive = rawfd.Polled(fd, unix.POLLIN) == 0
		return nil
	})
	return alive && (err == nil || errors.Is(err, errors.ErrUnsupported))
}
