package httpworker

import (
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ServeHTTP is the handler that net/http calls: it tells the connection of the request, and calls the user's.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn) //nolint:forcetypeassert // all connections are
	if isPreface(r) {
		s.takeOver(c, w)
		return
	}
	r.TLS = c.state
	switch {
	case r.ProtoMajor == 2:
		s.serveStream(c, w, r)
	case s.admit(c, w, r):
		s.answer(c, w, r)
		c.cork(r)
	}
}

// serveStream serves a request of HTTP/2.
func (s *server) serveStream(c *conn, w http.ResponseWriter, r *http.Request) {
	defer c.stream()()
	h := c.watchStream(w, r)
	defer h.ended()
	s.answer(c, h, r)
	h.answers(http.StatusOK)
}

func (s *server) answer(c *conn, w http.ResponseWriter, r *http.Request) {
	if r.RequestURI == "*" && r.Method == http.MethodOptions {
		serveOptions(w, r)
	} else {
		s.handler(c).ServeHTTP(w, r)
	}
}

// admit reports whether the request goes to a handler, and says in its response whether that is the connection's last.
func (s *server) admit(c *conn, w http.ResponseWriter, r *http.Request) bool {
	seen := c.handle(r)
	why, status := seen.Refusal(r), http.StatusBadRequest
	if seen.TooLarge() {
		why, status = "", http.StatusRequestHeaderFieldsTooLarge
	}
	refused := seen.TooLarge() || why != ""
	if refused || s.Draining() && !isUpgrade(r) && !c.Moves() && c.mayClose() {
		c.last()
		w.Header().Set("Connection", "close")
	}
	if !refused {
		return true
	}
	text := strconv.Itoa(status) + " " + http.StatusText(status)
	if why != "" {
		text += ": " + why
	}
	http.Error(w, text, status)
	return false
}

// handler is that of the listener that the connection came by.
func (s *server) handler(c *conn) http.Handler {
	if c.origin.handler != nil {
		return c.origin.handler
	}
	return s.Handler
}

// stream counts a request of HTTP/2, until what it returns is called.
func (c *conn) stream() (ended func()) {
	c.Requests.Add(1)
	c.s.env.Counters.Active.Add(1)
	return func() {
		c.Requests.Add(-1)
		c.s.env.Counters.Active.Add(-1)
	}
}

// maxOptionsBody is what net/http reads of an "OPTIONS *" request's body.
const maxOptionsBody = 4 << 10

// serveOptions answers "OPTIONS *" as net/http does it, which would not call our handler for it.
func serveOptions(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Length", "0")
	if r.ContentLength != 0 {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxOptionsBody))
	}
}

// isUpgrade reports whether r asks for another protocol; "Connection: close" would contradict the answer.
func isUpgrade(r *http.Request) bool {
	if r.Header.Get("Upgrade") == "" {
		return false
	}
	for _, v := range r.Header["Connection"] {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "upgrade") {
				return true
			}
		}
	}
	return false
}
