package httpworker

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// socket is what a conn needs of the connection that it wraps; *net.TCPConn and *net.UnixConn have it.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// conn is a connection as net/http has it. It keeps the time limits; net/http has none.
//
// Its phases: waiting (new or idle, and no request has begun), header (a request has begun, its header is not
// complete), active (net/http has the whole header and has not finished the response), hijacked.
//
// Threading: one goroutine at a time reads, net/http sees to that. Others may only poke and cut it.
type conn struct {
	socket
	s *server

	mu       sync.Mutex
	active   bool
	hijacked bool
	handled  bool // this request's handler was called
	last     bool // the response says "Connection: close" because we want it
	gone     bool // the client has closed, or is given up: there is nothing to linger for
	closing  bool
	closed   bool
	corked   bool // an incomplete segment waits for the close

	tls      *tlsSocket           // nil: there is no TLS
	state    *tls.ConnectionState // for requests
	shaking  bool                 // the TLS handshake has not ended
	h2       *h2Conn              // nil: it speaks HTTP/1
	streams  atomic.Int64         // that are open, in HTTP/2
	origin   origin
	kept     bool // the mover did not take it: it lingers
	later    bool // the mover could not take it now
	leaving  bool // it is to move, though the worker does not drain
	unmoved  bool // waiting, and the mover has been asked since the last poke
	untrue   bool // net/http did not behave as framing believes
	tried    bool // read from without waiting, as new
	unwanted bool // to be closed unless a request comes: there is no room
	used     bool // a request has begun on it

	frame framing
	held  []byte // was read from the socket, and net/http may not have it yet
	spare []byte // memory for held
	clock clock
	out   *sending
}

func newConn(sock socket, s *server, out *sending) *conn {
	return &conn{socket: sock, s: s, clock: clock{sock: sock}, out: out}
}

// step is what Read does next.
type step uint8

const (
	stepRead   step = iota // from the socket
	stepGive               // what was held back
	stepMove               // ask the mover
	stepTry                // without waiting
	stepClose              // nothing came in time
	stepRefuse             // the header is too large
	stepNoTLS              // it is a TLS handshake
)

// Read gives net/http what it may have next. In the phases waiting and header it keeps the time limits and the limit
// of the header's size; in the others it does as the wrapped connection.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, next := c.beforeRead(p)
		switch next {
		case stepRead:
		case stepGive:
			return n, nil
		case stepMove:
			if c.s.mover.move(c) {
				return 0, c.end()
			}
			c.keep()
			continue
		case stepTry:
			if n, ok := c.try(p[:n]); ok {
				return n, nil
			}
			continue
		case stepClose:
			return c.lastLook(p[:n])
		case stepRefuse:
			return 0, c.refuse(headerTooLarge)
		case stepNoTLS:
			return 0, c.refuse(noTLS)
		}
		n, err := c.socket.Read(p[:n])
		if n, again := c.afterRead(p[:n], err); !again {
			return n, err
		}
	}
}

// beforeRead says what to do and with how many bytes.
func (c *conn) beforeRead(p []byte) (int, step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	room := c.frame.room(len(p))
	waiting := !c.active && !c.hijacked
	c.held = c.skipEmptyLines(c.held)
	if waiting {
		room = min(room, c.s.MaxHeaderSize-c.frame.size)
	}
	switch {
	case room <= 0 && len(p) > 0:
		return 0, stepRefuse
	case waiting && c.frame.alien:
		return 0, stepNoTLS
	case len(c.held) > 0 || room <= 0:
		return c.takeHeld(p[:room]), stepGive
	case !waiting:
		c.clock.activeRead(c.bodyTimeout())
	case c.frame.began():
		c.clock.headerRead(c.s.ReceiveTimeout)
	default:
		return room, c.beforeWaiting(len(p))
	}
	return room, stepRead
}

// beforeWaiting decides on a connection without a request, whenever its Read is about to block.
func (c *conn) beforeWaiting(asked int) step {
	if (c.leaving || c.s.moving()) && !c.unmoved && c.movable(asked) {
		c.unmoved = true
		return stepMove
	}
	if !c.used && !c.tried {
		c.tried = true // a new connection mostly has its request with it, and a timer costs more than a look
		return stepTry
	}
	if !c.unwanted && c.clock.waitingRead(c.s.waitLimit()) {
		return stepRead
	}
	return stepClose
}

// movable reports that all of the connection is in its socket: nothing of a next request was read. That is known
// here, and net/http agrees: the first Read after a request asks for the full buffer if and only if it is empty.
func (c *conn) movable(asked int) bool {
	return c.wantedElsewhere() && c.frame.untouched() && (!c.used || asked == readerSize)
}

// wantedElsewhere reports that nothing but a request on it keeps the connection from moving.
func (c *conn) wantedElsewhere() bool { return !c.origin.stays && !c.untrue && c.s.mover.wants(c) }

func (c *conn) keep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = !c.later && c.s.draining()
	c.leaving = c.leaving && c.later
	c.later = false
}

// lastLook reads without waiting, and ends the connection if there is nothing. A deadline that has passed keeps Read
// from looking at the socket at all, but a request that has come just in time is to be served.
func (c *conn) lastLook(p []byte) (int, error) {
	if n, ok := c.try(p); ok {
		return n, nil
	}
	c.s.countIdleClose(c)
	return 0, c.end()
}

// try reads without waiting, and reports whether anything came.
func (c *conn) try(p []byte) (int, bool) {
	var n int
	if c.tls != nil {
		n = c.tls.look(p)
	} else {
		n = receive(c.socket, p)
	}
	if n == 0 {
		return 0, false
	}
	n, _ = c.afterRead(p[:n], nil)
	return n, true
}

// end makes net/http close the connection without an answer.
func (c *conn) end() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	return io.EOF
}

// errRefused is what net/http gets when the answer was given here.
var errRefused = &net.OpError{Op: "read", Err: errors.New("httpworker: refused")}

const headerTooLarge = "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Content-Length: 36\r\nConnection: close\r\n\r\n431 Request Header Fields Too Large\n"

const noTLS = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Content-Length: 52\r\nConnection: close\r\n\r\nClient sent a TLS handshake where TLS is not spoken\n"

// refuse answers a request whose header does not come to an end.
func (c *conn) refuse(answer string) error {
	c.mu.Lock()
	c.last = true
	c.mu.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(lingerTime)) // the client may be writing, and not reading
	_, _ = io.WriteString(c, answer)
	_ = c.socket.CloseWrite() // or net/http may answer too: it takes the line that breaks off for a complete one
	return errRefused
}

// afterRead accounts for what a Read of the socket gave; again means that it gave nothing and the time is not up.
func (c *conn) afterRead(p []byte, err error) (n int, again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(p) > 0 {
		n := c.took(p)
		return n, n == 0
	}
	timeout := errors.Is(err, os.ErrDeadlineExceeded)
	if timeout && !c.expired() {
		return 0, true
	}
	c.gone = c.gone || err != nil && !(timeout && c.active)
	return 0, false
}

// expired reports whether a deadline that has fired is the phase's.
func (c *conn) expired() bool {
	switch {
	case c.active, c.hijacked:
		up := c.clock.activeExpired()
		c.last = c.last || up && c.frame.inBody() // the answer to half a body is to arrive
		return up
	case c.frame.began():
		return c.headerExpired()
	}
	return false // beforeWaiting decides
}

func (c *conn) headerExpired() bool {
	up := c.clock.headerExpired()
	if up {
		_ = c.socket.CloseWrite() // see refuse
	}
	return up
}

// took returns how many bytes of p, which net/http's buffer has just got, it may have; the others are held back.
func (c *conn) took(p []byte) int {
	if rest := c.skipEmptyLines(p); len(rest) < len(p) {
		p = p[:copy(p, rest)]
	}
	n := c.frame.take(p)
	if n < len(p) {
		c.held = append(c.spare, p[n:]...) // it was empty: the socket is read only then
		c.spare = c.held[:0]
	}
	c.progress()
	return n
}

// skipEmptyLines drops empty lines before a request, as RFC 9112, 2.2, asks for: net/http does so only behind a POST.
// While a handler runs that may take the connection over, what follows may be no request.
func (c *conn) skipEmptyLines(p []byte) []byte {
	if len(p) == 0 || c.hijacked || !c.frame.between() || c.active && c.frame.faults&takesOver != 0 {
		return p
	}
	return bytes.TrimLeft(p, "\r\n")
}

func (c *conn) takeHeld(p []byte) int {
	n := min(len(p), len(c.held))
	if n == 0 {
		return 0
	}
	n = c.frame.take(c.held[:n])
	copy(p, c.held[:n])
	if c.held = c.held[n:]; len(c.held) == 0 {
		c.held = nil
		c.trim()
	}
	c.progress()
	return n
}

// maxSpare is what a connection keeps to hold back small bodies, which often come together with their header.
const maxSpare = 1024

func (c *conn) trim() {
	if cap(c.spare) > maxSpare {
		c.spare = nil
	}
}

// progress ends the time limits of what has come to its end.
func (c *conn) progress() {
	c.clock.body = time.Time{}
	if c.frame.began() {
		c.wanted()
		c.used = true
		c.clock.waiting = time.Time{}
	}
	if c.frame.part == partHeadEnded {
		c.clock.header = time.Time{}
	}
}

// SetReadDeadline is net/http's and the handlers'. It is ignored while a connection has no handler: then the time
// limits are the connection's own.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.active && !c.hijacked {
		return nil
	}
	return c.clock.setUser(t, c.hijacked)
}

// bodyTimeout is how long the Read that begins may wait, if it is one for a body.
func (c *conn) bodyTimeout() time.Duration {
	if c.frame.inBody() {
		return c.s.BodyTimeout
	}
	return 0
}

// Write is net/http's and the handlers'.
func (c *conn) Write(p []byte) (int, error) {
	if c.tls != nil {
		return c.socket.Write(p) // which comes to the same, see belowTLS
	}
	return c.out.write(p)
}

// SetWriteDeadline is the handlers'.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.out.setUser(t) }

// SetDeadline sets both deadlines, see SetReadDeadline.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// sendOff has the connection move when it waits for a request, and reports whether it may.
func (c *conn) sendOff() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving || c.shaking || c.h2 != nil || c.hijacked || c.closing || !c.wantedElsewhere() {
		return false
	}
	c.leaving = true
	if !c.active && !c.frame.began() {
		c.unmoved = false
		c.clock.expire()
	}
	return true
}

// poke makes a connection that waits for a request decide anew, on its own goroutine. It does nothing to one on which
// a request has begun.
func (c *conn) poke() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.shaking:
		c.tls.hurry(c.s.waitLimit())
	case c.h2 != nil:
		if c.s.stopping.Load() {
			c.h2.hurry()
		}
	case !c.active && !c.hijacked && !c.closing && !c.frame.began():
		c.unmoved, c.kept = false, false
		c.clock.expire()
	}
}
