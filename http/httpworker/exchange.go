package httpworker

import (
	"bytes"
	"net"
	"net/http"
	"strconv"
	"time"

	"baton/worker"
)

// An Exchange is a request and what was answered, when that is over.
type Exchange struct {
	Request  *http.Request // nil: refused before a handler could see it
	Listener worker.ListenerKey
	Client   net.Addr
	Status   int           // of the answer; 0: there was none
	Sent     int64         // bytes behind the answer's header, as they were written to an HTTP/1 connection
	Began    time.Time     // the request's header was complete
	Took     time.Duration // until the answer was written, or the connection closed
}

// exchange follows the answer to a request.
type exchange struct {
	phase   exchangePhase
	began   time.Time     // zero: the header is not complete
	request *http.Request // nil: no handler was called
	status  int           // that has begun to be written; 0: none
	line    int           // bytes of the answer's header since its last line
	sent    int64
}

type exchangePhase uint8

const (
	exchangeOpen     exchangePhase = iota // the answer's header has not ended
	exchangeBody                          // it has
	exchangeHijacked                      // as exchangeOpen; the answer is over with its header
	exchangeForeign                       // what is written is no answer of HTTP/1
)

// write is told what is about to be written to an HTTP/1 connection, and reports whether that begins an answer:
// net/http begins each with a write of its own.
func (x *exchange) write(p []byte) (answers bool) {
	switch x.phase {
	case exchangeForeign:
		return false
	case exchangeBody:
		x.sent += int64(len(p))
		return false
	case exchangeOpen, exchangeHijacked:
	}
	if x.status == 0 {
		if x.status = statusOf(p); x.status == 0 {
			return false
		}
		answers = true
	}
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			x.line += len(p)
			return answers
		}
		last := x.line+i <= len("\r")
		if p, x.line = p[i+1:], 0; last {
			x.phase, x.sent = exchangeBody, int64(len(p))
			return answers
		}
	}
}

// statusOf is the status in the first line of an answer; 0: that is no answer, or one that only comes first.
func statusOf(p []byte) int {
	const first, last = len("HTTP/1.1 "), len("HTTP/1.1 200")
	if len(p) < last || !bytes.HasPrefix(p, []byte("HTTP/1.")) {
		return 0
	}
	status, err := strconv.Atoi(string(p[first:last]))
	if err != nil || status < 200 && status != http.StatusSwitchingProtocols {
		return 0
	}
	return status
}

// answers is called before anything of an answer is written: whoever has read it was counted.
func (s *server) answers() { s.env.Counters.Requests.Add(1) }

// begin is called when the header of a request is complete, or wrong. When that was, only an observer asks.
func (c *conn) begin() {
	if c.s.Observe == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = time.Now()
}

// end is called when the answer to a request was written, or there will be none.
func (c *conn) end(next exchangePhase) {
	c.mu.Lock()
	x := c.exchange
	c.exchange = exchange{phase: next}
	c.mu.Unlock()
	c.s.over(c, x)
}

// over is called when an exchange is.
func (s *server) over(c *conn, x exchange) {
	if x.request == nil && x.status == 0 || s.Observe == nil {
		return
	}
	if x.began.IsZero() {
		x.began = time.Now()
	}
	s.Observe(&Exchange{
		Request: x.request, Listener: c.origin.Key, Client: c.RemoteAddr(), Status: x.status, Sent: x.sent,
		Began: x.began, Took: time.Since(x.began),
	})
}
