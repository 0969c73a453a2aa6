package httpworker

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"baton/http/httpworker/internal/strict"
	"baton/worker/conns"
	"baton/worker/rawfd"
)

// conn is a connection as net/http has it: one of the engine's, whose requests are followed.
type conn struct {
	conns.Conn
	s        *server
	origin   *origin
	state    *tls.ConnectionState // for requests; nil: there is no TLS
	deferred int                  // how often its end was put off, see mayClose
	corked   bool                 // an incomplete segment waits for the close

	refused atomic.Bool // what was read last has a refusal

	mu    sync.Mutex
	scan  strict.Scanner
	reply reply // written by the goroutine that serves the connection, which may read it without mu
	exchange
}

// reply is how far the answer to a request has come.
type reply uint8

const (
	replyNone reply = iota // there is no request, or it has not come to a handler
	replyKept              // its handler was called
	replyLast              // it says "Connection: close" because we want it
)

// tracked is a connection of this package, whatever it is wrapped in.
type tracked interface{ tracked() *conn }

func (c *conn) tracked() *conn { return c }

// connOf finds the conn in what net/http calls the connection.
func connOf(nc net.Conn) *conn {
	return nc.(tracked).tracked() //nolint:forcetypeassert // net/http serves nothing else
}

// Take is for the engine: it follows what was read.
func (c *conn) Take(p []byte) (n int, began bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n = c.scan.Take(p)
	if refused := c.scan.IsTLS() || c.scan.TooLarge(); refused != c.refused.Load() {
		c.refused.Store(refused)
	}
	return n, c.scan.Began()
}

// InBody is for the engine.
func (c *conn) InBody() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scan.InBody()
}

// onState follows net/http through a connection's life. It is called on the goroutine that serves the connection.
//
// StateActive comes when a request's header is complete (or wrong), StateIdle before net/http reads what follows.
func (c *conn) onState(state http.ConnState) {
	switch state {
	case http.StateActive:
		c.Complete()
		c.begin()
	case http.StateIdle:
		c.uncork()
		c.end(exchangeOpen)
		c.Idle(c.answered())
	case http.StateHijacked:
		c.stopScanning(exchangeHijacked)
		c.Detach(false)
	case http.StateNew, http.StateClosed:
	}
}

// answered is called when a request was answered, and reports whether the next one has begun.
func (c *conn) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply = replyNone
	return c.scan.Idle()
}

// stopScanning has the connection's bytes pass: they are no requests any more.
func (c *conn) stopScanning(as exchangePhase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply = replyNone
	c.exchange.phase = as
	c.scan.Stop()
}

// handle is called when a request's handler is about to run.
func (c *conn) handle(r *http.Request) strict.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply, c.request = replyKept, r
	return c.scan.Next()
}

// last is called when the response to a request is to be the connection's last.
func (c *conn) last() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply = replyLast
}

// maxDeferred bounds how often the end of a connection is put off.
const maxDeferred = 100

// mayClose reports whether a response may be the last: no next request has come, or there were too many of them.
func (c *conn) mayClose() bool {
	c.mu.Lock()
	begun, more := c.scan.Began(), c.scan.InBody()
	c.mu.Unlock()
	if begun || !more && c.pending() {
		c.deferred++
		return c.deferred > maxDeferred
	}
	return true
}

// pending reports whether something lies in the socket.
func (c *conn) pending() (is bool) {
	_ = rawfd.Control(c, func(fd int) error {
		is = rawfd.Readable(fd)
		return nil
	})
	return is
}

// Read is net/http's, and the handlers' of a connection that is hijacked.
func (c *conn) Read(p []byte) (int, error) {
	if c.refused.Load() && c.Waits() {
		if answer := c.refusal(); answer != "" {
			return 0, c.refuse(answer)
		}
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, conns.ErrMoved) {
		err = io.EOF // net/http closes the connection without an answer
	}
	return n, err
}

const headerTooLarge = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Content-Length: 36\r\nConnection: close\r\n\r\n431 Request Header Fields Too Large\n"

const noTLS = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Content-Length: 52\r\nConnection: close\r\n\r\nClient sent a TLS handshake where TLS is not spoken\n"

// refusal is the answer to what does not come to the end of its header, or "".
func (c *conn) refusal() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.scan.IsTLS():
		return noTLS
	case c.scan.TooLarge():
		return headerTooLarge
	}
	return ""
}

// errRefused is what net/http gets when the answer was given here.
var errRefused = &net.OpError{Op: "read", Err: errors.New("httpworker: refused")}

func (c *conn) refuse(answer string) error {
	c.last()
	_ = c.SetWriteDeadline(time.Now().Add(conns.LingerTime)) // the client may be writing, and not reading
	_, _ = io.WriteString(c, answer)
	_ = c.CloseWrite() // or net/http may answer too: it takes the line that breaks off for a complete one
	return errRefused
}

// Write is net/http's, and the handlers' of a connection that is hijacked.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	hijacked := c.phase == exchangeHijacked
	answers := c.exchange.write(p)
	c.mu.Unlock()
	if answers {
		c.s.answers()
	}
	n, err := c.Conn.Write(p)
	if answers && hijacked {
		c.end(exchangeForeign)
	}
	return n, err
}

// ReadFrom is net/http's, for the body of an answer.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	n, err := c.Conn.ReadFrom(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent += n
	return n, err
}

// CloseWrite is for what net/http closes slowly: the answer was written.
func (c *conn) CloseWrite() error {
	c.end(exchangeForeign)
	return c.Conn.CloseWrite()
}

// Close closes the connection such that what was written arrives: behind a response that net/http's client did not
// ask to be the last, behind half a body, and behind a request that net/http has refused.
func (c *conn) Close() error {
	c.end(exchangeForeign)
	c.mu.Lock()
	lingers := c.reply == replyLast || c.scan.Began() || c.scan.InBody()
	c.mu.Unlock()
	if lingers {
		c.Linger(conns.LingerTime, conns.LingerTime)
		return nil
	}
	return c.Conn.Close()
}
