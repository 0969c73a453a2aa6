package httpworker

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"time"
)

// How long a client is awaited: to answer the GOAWAY, and then to send the requests that it had begun before it read
// that. A client may have chosen the connection, and answer the PING before it writes the request; net/http's does,
// rarely.
const (
	roundTrip = time.Second
	lateness  = 250 * time.Millisecond
)

// serveH2 serves a connection whose client speaks HTTP/2. first are bytes of it that were read already. It returns at
// once; the connection counts until it is closed.
//
// Every connection has an http.Server of its own: to shut down is the one way to make net/http say goodbye, and it says
// it to all connections of a server, but not to those that are just beginning. Neither does it say it in two steps; the
// first of them is ours, see [h2Conn.announce].
func (s *server) serveH2(c *conn, first []byte) {
	h := newH2Conn(c, first)
	srv := &http.Server{
		Handler:                      s,
		MaxHeaderBytes:               s.MaxHeaderSize,
		IdleTimeout:                  s.IdleTimeout,
		ErrorLog:                     s.http.ErrorLog,
		ConnContext:                  s.http.ConnContext,
		DisableGeneralOptionsHandler: true,
		Protocols:                    new(http.Protocols),
	}
	srv.Protocols.SetUnencryptedHTTP2(true) // over TLS too: net/http gets what is inside
	h.stop = context.AfterFunc(s.Context(), func() { h.shutDown(srv) })
	_ = srv.Serve(&oneConn{conn: h}) // fails when the connection is taken
}

// shutDown ends the connection without losing a request: GOAWAY, and when no more streams can come the real goodbye.
// Streams that are open go on.
//
// A connection that has just begun, before or after the drain has, is told after its first request: a client that is
// told before may not know where to send it.
func (h *h2Conn) shutDown(srv *http.Server) {
	h.await(h.requested, roundTrip)
	h.sendGoAway()
	h.await(h.returned, roundTrip)
	h.await(nil, lateness)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = srv.Shutdown(ctx) // says goodbye, and does not wait
}

// await waits for what comes soon, and not for long.
func (h *h2Conn) await(what <-chan struct{}, limit time.Duration) {
	if h.s.Stopping() {
		limit /= 4
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-what:
	case <-timer.C:
	case <-h.closed:
	}
}

// isPreface reports whether r is not a request, but the beginning of an HTTP/2 connection without TLS.
func isPreface(r *http.Request) bool {
	return r.Method == "PRI" && r.RequestURI == "*" && r.ProtoMajor == 2 && len(r.Header) == 0
}

// takeOver makes a connection one of HTTP/2, whose client has said so.
func (s *server) takeOver(c *conn, w http.ResponseWriter) {
	_, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	s.serveH2(c, append([]byte(preface[:len(preface)-len(prefaceEnd)]), buffered(rw.Reader)...))
}

// prefaceEnd is the part of the preface that net/http does not take for a request.
const prefaceEnd = "SM\r\n\r\n"

func buffered(r *bufio.Reader) []byte {
	b, _ := io.ReadAll(io.LimitReader(r, int64(r.Buffered())))
	return b
}
