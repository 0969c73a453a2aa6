package httpworker

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// observed is a handler and what is observed of it.
func observed(t *testing.T) (Settings, func() string) {
	seen := make(chan string, 10)
	settings := Settings{
		Handler: http.HandlerFunc(exchanging),
		Observe: func(x *Exchange) {
			request := "-"
			if x.Request != nil {
				request = x.Request.Method + " " + x.Request.URL.Path
			}
			if x.Took < 0 || x.Client == nil || x.Began.IsZero() {
				t.Errorf("%s took %v, of client %v, at %v", request, x.Took, x.Client, x.Began)
			}
			seen <- fmt.Sprint(request, " ", x.Status, " ", x.Sent)
		},
	}
	return settings, func() string { return <-seen }
}

func exchanging(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/large-header":
		for i := range 100 {
			w.Header().Add("X", strings.Repeat("x", 50+i))
		}
		_, _ = io.WriteString(w, "abc")
	case "/early":
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusAccepted)
	case "/panic":
		panic(http.ErrAbortHandler)
	case "/stream":
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "b")
	case "/switch":
		c, _, _ := http.NewResponseController(w).Hijack()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		_, _ = io.WriteString(c, "HTTP/1.1 200 is what is said then\r\n\r\n")
		_ = c.Close()
	default:
		echo(w, r)
	}
}

// What becomes of requests is told once for each, however its answer is written.
func TestObserve(t *testing.T) {
	t.Parallel()
	const post = "POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
	for _, test := range []struct{ send, want string }{
		{get("/a"), "GET /a 200 2"},
		{get("/a") + get("/ab"), "GET /a 200 2, GET /ab 200 3"},
		{post + "\r\nabc", "POST /p 200 5"},
		{post + "Expect: 100-continue\r\n\r\nabc", "POST /p 200 5"},
		{"HEAD /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "HEAD /a 200 0"},
		{get("/large-header"), "GET /large-header 200 3"},
		{get("/early"), "GET /early 202 0"},
		{get("/panic"), "GET /panic 0 0"},
		{get("/stream"), "GET /stream 200 17"}, // with the lengths of the chunks
		{get("/switch"), "GET /switch 101 0"},
		{"GET / HTTP/1.1\r\n\r\n", "- 400 45"},               // net/http's refusal
		{"GET /a HTTP/1.1\nHost: h\n\n", "GET /a 400 62"},    // ours
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "- 400 52"}, // before there is a header
	} {
		settings, next := observed(t)
		c := dial(t, start(t, settings))
		c.send(test.send)
		for want := range strings.SplitSeq(test.want, ", ") {
			if got := next(); got != want {
				t.Errorf("%.40q: got %q, want %q", test.send, got, want)
			}
		}
	}
}

func TestObserveHTTP2(t *testing.T) {
	t.Parallel()
	settings, next := observed(t)
	p := start(t, settings)
	client := h2Client(t, false)
	for path, want := range map[string]string{
		"/a": "GET /a 200 2", "/early": "GET /early 202 0", "/panic": "GET /panic 0 0", "/stream": "GET /stream 200 2",
	} {
		if resp, err := client.Get("http://" + p.Addr() + path); err == nil {
			_, _ = bufio.NewReader(resp.Body).WriteTo(io.Discard)
			_ = resp.Body.Close()
		}
		if got := next(); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}
