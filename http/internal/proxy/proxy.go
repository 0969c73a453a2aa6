package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// A Relay passes on what client and upstream say to each other, until either ends, and closes both.
type Relay = func(ctx context.Context, protocol string, client, upstream io.ReadWriteCloser)

// An Observer is told of requests that have ended.
type Observer = func(r *http.Request, status int, took time.Duration)

// A Proxy is an [http.Handler] that forwards every request to its Upstream.
type Proxy struct {
	*Upstream

	// Name is what the log calls the upstream.
	Name string

	// Log gets a line for each request that the upstream does not answer. If nil, it is slog.Default.
	Log *slog.Logger

	// Observe, if not nil, is called when a request has ended, with the status that the client has got, if that says
	// something about the upstream, and how long it took. It must not block.
	Observe Observer

	// Host is what the upstream gets as Host; "" is what the client has asked for.
	Host string

	// Base is put before the path of every request.
	Base string

	// Trusted are the clients whose X-Forwarded fields are true.
	Trusted Trusted

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
	ip      string // the client's; "": it came by a Unix socket
	trusted bool   // what it says of where the request comes from
	expects bool   // the client waits for 100 Continue before it sends the body
	status  int    // of the response, once it has begun
	body    *body
}

// ServeHTTP is http.Handler's.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{p: p, w: w, r: r}
	defer x.observe(time.Now())
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

// observe is called when the exchange has ended.
func (x *exchange) observe(begin time.Time) {
	if x.p.Observe != nil && x.status != 0 {
		x.p.Observe(x.r, x.status, time.Since(begin))
	}
}

// fail tells the client, if there is one and nothing was said yet. Why an upstream has failed is for the log.
func (x *exchange) fail(err error) {
	if cause := x.body.failed(); cause != nil {
		err = cause
	}
	var broken *bodyError
	var unsent *clientError
	switch {
	case errors.As(err, &broken) && x.status == 0:
		AnswerBadBody(x.w, x.r, broken)
		return
	case x.r.Context().Err() != nil, broken != nil, errors.As(err, &unsent):
		panic(http.ErrAbortHandler) // the client is gone, or the drain's deadline has come: there is nobody to tell
	case x.status != 0:
		x.log("proxy: the upstream broke off its response", err)
		panic(http.ErrAbortHandler)
	}
	x.status = http.StatusBadGateway
	if isTimeout(err) {
		x.status = http.StatusGatewayTimeout
	}
	x.log("proxy: the upstream did not answer", err)
	http.Error(x.w, fmt.Sprintf("%d %s", x.status, strings.ToLower(http.StatusText(x.status))), x.status)
}

func (x *exchange) log(what string, err error) {
	cmp.Or(x.p.Log, slog.Default()).Warn(what, "upstream", x.p.Name, "status", x.status, "reason", err,
		"method", x.r.Method, "path", x.r.URL.Path)
}
