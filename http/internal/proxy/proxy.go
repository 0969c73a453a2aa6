package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// A Relay passes on what client and upstream say to each other, until either ends, and closes both.
type Relay = func(ctx context.Context, protocol string, client, upstream io.ReadWriteCloser)

// A Proxy is an [http.Handler] that forwards every request to its Upstream.
type Proxy struct {
	*Upstream

	// Host is what the upstream gets as Host; "" is what the client has asked for.
	Host string

	// Base is put before the path of every request.
	Base string

	// Trusts reports whether a client's address is that of a proxy whose X-Forwarded fields are true. If nil, none is.
	Trusts func(ip string) bool

	// Relay, if not nil, passes on what is said on a connection that has switched to another protocol, and closes both:
	// websocket.Relay, which this package must not know, for the config file's reader needs neither.
	Relay Relay
}

// exchange is one request on its way.
type exchange struct {
	p       *Proxy
	w       http.ResponseWriter
	r       *http.Request
	c       *conn
	expects bool // the client waits for 100 Continue before it sends the body
	begun   bool // the response has
	body    *body
}

// ServeHTTP is http.Handler's.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{p: p, w: w, r: r}
	x.expects = r.ContentLength != 0 && r.Header.Get("Expect") == "100-continue"
	err := x.try()
	if err != nil && x.again() {
		err = x.try()
	}
	if err != nil {
		x.fail(err)
	}
}

// again reports whether the request has not reached the upstream, and is still whole.
func (x *exchange) again() bool {
	return x.c != nil && !x.c.written && x.body.untouched() && x.r.Context().Err() == nil
}

// try does the exchange. When it returns, the connection is closed or kept.
func (x *exchange) try() (err error) {
	ctx := x.r.Context()
	if x.c, err = x.p.get(ctx); err != nil {
		return err
	}
	c := x.c
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	reusable := false
	defer func() {
		if stop() && reusable && err == nil {
			x.p.put(c)
			return
		}
		_ = c.Close()
	}()
	if err = x.send(); err != nil {
		return err
	}
	reusable, err = x.receive()
	return err
}

// send writes the request, or as much as there is of it: the rest follows on a goroutine.
func (x *exchange) send() error {
	x.limit(x.c.SetWriteDeadline)
	x.writeHeader(x.c.w)
	x.body = newBody(x)
	if x.body != nil {
		return x.body.start()
	}
	if err := x.c.w.Flush(); err != nil {
		return err
	}
	x.limit(x.c.SetReadDeadline)
	return nil
}

// limit sets a deadline for the upstream.
func (x *exchange) limit(set func(time.Time) error) {
	if x.p.Timeout > 0 {
		_ = set(time.Now().Add(x.p.Timeout))
	}
}

// fail tells the client, if there is one and nothing was said yet.
func (x *exchange) fail(err error) {
	if cause := x.body.failed(); cause != nil {
		err = cause
	}
	var broken *bodyError
	switch {
	case x.r.Context().Err() != nil && !errors.As(err, &broken):
		panic(http.ErrAbortHandler) // the client is gone, or the drain's deadline has come: there is nobody to tell
	case x.begun:
		panic(http.ErrAbortHandler)
	case errors.As(err, &broken):
		AnswerBadBody(x.w, x.r, broken)
	case isTimeout(err):
		http.Error(x.w, "504 gateway timeout: the upstream does not answer in time", http.StatusGatewayTimeout)
	default:
		http.Error(x.w, "502 bad gateway: "+reason(err), http.StatusBadGateway)
	}
}
