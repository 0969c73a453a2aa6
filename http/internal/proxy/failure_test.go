package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// gone is a client that takes nothing any more.
type gone struct{ *httptest.ResponseRecorder }

func (gone) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// brokenBody is that of a client that breaks off.
func brokenBody() io.Reader {
	return io.MultiReader(strings.NewReader("x"), iotestErr{errors.New("invalid chunk")})
}

type iotestErr struct{ error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.error }

// TestFailures: the client is told the status and no more; the log has one line, which says why; and what says
// something about the upstream is counted.
func TestFailures(t *testing.T) {
	const half = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
	says := func(text string) func(net.Conn) { return func(c net.Conn) { _, _ = io.WriteString(c, text) } }
	silent := func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }
	for name, tt := range map[string]struct {
		dial     error
		upstream func(net.Conn)
		body     io.Reader
		isGone   bool
		status   int // of the client
		text     string
		observed int
		log      string
	}{
		"refused": {
			dial: errors.New("connection refused"), status: 502, observed: 502,
			log: "502 .*connection refused",
		},
		"dies": {
			upstream: says(""), status: 502, observed: 502,
			log: "502 .*closed the connection before",
		},
		"half a header": {upstream: says("HTTP/1.1 200 OK\r\nA: b"), status: 502, observed: 502, log: "502 .*closed"},
		"nonsense":      {upstream: says("BLAH\r\n\r\n"), status: 502, observed: 502, log: "502 .*malformed"},
		"too large": {
			upstream: says("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxHeader/6)), status: 502, observed: 502,
			log: "502 .*too large",
		},
		"unasked": {upstream: says("HTTP/1.1 101 X\r\nUpgrade: a\r\n\r\n"), status: 502, observed: 502, log: "502 .*unasked"},
		"silent": {
			upstream: silent, status: 504, observed: 504,
			log: "504 .*timeout",
		},
		"breaks off": {upstream: says(half), status: 200, text: "half", observed: 200, log: "broke off.*200 .*unexpected EOF"},
		"pauses": {
			upstream: func(c net.Conn) { says(half)(c); silent(c) }, status: 200, text: "half", observed: 200,
			log: "broke off.*200 .*timeout",
		},
		"good":        {upstream: says("HTTP/1.1 404 X\r\nContent-Length: 1\r\n\r\nx"), status: 404, text: "x", observed: 404},
		"client gone": {upstream: says(half), isGone: true, status: 200, observed: 200},
		"broken body": {upstream: silent, body: brokenBody(), status: 400, text: "400 bad request: the body is broken\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serve(time.Minute, func(c net.Conn, r *bufio.Reader) {
					req, _ := http.ReadRequest(r)
					_ = req.Body.Close()
					tt.upstream(c)
				})
				if tt.dial != nil {
					p.Dial = func(context.Context) (net.Conn, error) { return nil, tt.dial }
				}
				var log bytes.Buffer
				observed := 0
				p.Name, p.Log = "web", slog.New(slog.NewTextHandler(&log, nil))
				p.Observe = func(_ *http.Request, status int, _ time.Duration) { observed = status }
				rec := httptest.NewRecorder()
				var w http.ResponseWriter = rec
				if tt.isGone {
					w = gone{rec}
				}
				r := httptest.NewRequestWithContext(t.Context(), "PUT", "/a", tt.body)
				served(p, w, r)
				text := tt.text
				if text == "" && rec.Code != 200 {
					text = map[int]string{502: "502 bad gateway\n", 504: "504 gateway timeout\n"}[tt.status]
				}
				if rec.Code != tt.status || rec.Body.String() != text || observed != tt.observed {
					t.Errorf("%d %q, observed %d", rec.Code, rec.Body, observed)
				}
				lines := strings.Count(log.String(), "\n")
				if tt.log == "" && lines != 0 || tt.log != "" && (lines != 1 ||
					!regexp.MustCompile("level=WARN .* upstream=web .*method=PUT path=/a").MatchString(log.String()) ||
					!regexp.MustCompile(tt.log).MatchString(log.String())) {
					t.Errorf("the log: %s", log.String())
				}
			})
		})
	}
}

// TestClientLeavesBeforeTheAnswer: that says nothing about the upstream.
func TestClientLeavesBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := serve(0, func(_ net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			cancel()
			_, _ = r.ReadByte()
		})
		var log bytes.Buffer
		p.Log = slog.New(slog.NewTextHandler(&log, nil))
		p.Observe = func(_ *http.Request, status int, _ time.Duration) { t.Errorf("%d is observed", status) }
		if served(p, httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil)) || log.Len() > 0 {
			t.Errorf("a response, or %q", log.String())
		}
	})
}
