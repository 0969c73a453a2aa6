package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serve plays the upstream of one connection, and returns the Proxy to it.
func serve(timeout time.Duration, upstream func(c net.Conn, r *bufio.Reader)) *Proxy {
	dial := func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer func() { _ = far.Close() }()
			upstream(far, bufio.NewReader(far))
		}()
		return near, nil
	}
	return &Proxy{Upstream: &Upstream{Dial: dial, Timeout: timeout, IdleTimeout: time.Second}}
}

// slow is a client that takes its time.
type slow struct {
	*httptest.ResponseRecorder
	pause time.Duration
}

func (s slow) Write(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.ResponseRecorder.Write(p)
}

// TestUpstreamPauses: the limit counts from one read to the next, and not while the client takes what was read.
func TestUpstreamPauses(t *testing.T) {
	for name, tt := range map[string]struct {
		limit  time.Duration
		client time.Duration
		pauses []time.Duration
		want   string
		whole  bool
	}{
		"shorter, longer together": {time.Minute, 0, []time.Duration{50 * time.Second, 50 * time.Second}, "xx", true},
		"longer":                   {time.Minute, 0, []time.Duration{50 * time.Second, 70 * time.Second}, "x", false},
		"the client's":             {time.Minute, time.Hour, []time.Duration{0, 0}, "xx", true},
		"no limit":                 {0, 0, []time.Duration{30 * 24 * time.Hour}, "x", true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := serve(tt.limit, func(c net.Conn, r *bufio.Reader) {
					_, _ = http.ReadRequest(r)
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
					for _, d := range tt.pauses {
						time.Sleep(d)
						_, _ = io.WriteString(c, "x")
					}
				})
				w := slow{httptest.NewRecorder(), tt.client}
				whole := served(p, w, httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
				time.Sleep(time.Hour) // until the upstream is done as well
				synctest.Wait()
				if got := w.Body.String(); got != tt.want || whole != tt.whole {
					t.Errorf("%q, whole %v", got, whole)
				}
			})
		})
	}
}

// served reports whether the handler returned, and did not abort.
func served(h http.Handler, w http.ResponseWriter, r *http.Request) (whole bool) {
	defer func() {
		if v := recover(); v != nil && v != any(http.ErrAbortHandler) {
			panic(v)
		}
	}()
	h.ServeHTTP(w, r)
	return true
}

// TestResend: a request is sent again only if the upstream has not seen it.
func TestResend(t *testing.T) {
	for name, tt := range map[string]struct {
		body   string
		first  func(c net.Conn, r *bufio.Reader) // what the kept connection does with its second request
		status int
	}{
		"closed when it was idle":        {"", func(net.Conn, *bufio.Reader) {}, 200},
		"closed, with a body":            {"abc", func(net.Conn, *bufio.Reader) {}, 502}, // it was read
		"closed when it had the request": {"", func(_ net.Conn, r *bufio.Reader) { _, _ = http.ReadRequest(r) }, 502},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				connections, seen := 0, 0
				answer := func(c net.Conn, r *bufio.Reader) {
					req, err := http.ReadRequest(r)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					seen++
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
				p := serve(0, func(c net.Conn, r *bufio.Reader) {
					connections++
					answer(c, r)
					if connections == 1 {
						tt.first(c, r)
					}
				})
				for i, want := range []int{200, tt.status} {
					w := httptest.NewRecorder()
					body := strings.NewReader(strings.Repeat(tt.body, i))
					p.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/", body))
					synctest.Wait()
					if w.Code != want {
						t.Errorf("request %d: %d %s", i, w.Code, w.Body)
					}
				}
				want := 1
				if tt.status == http.StatusOK {
					want = 2
				}
				if seen != want {
					t.Errorf("%d requests were answered", seen)
				}
			})
		})
	}
}

// TestIdleConnectionsEnd: a connection is closed when it was idle for too long, and when the Upstream is closed.
func TestIdleConnectionsEnd(t *testing.T) {
	for _, closes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var ended time.Time
			p := serve(0, func(c net.Conn, r *bufio.Reader) {
				_, _ = http.ReadRequest(r)
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				ended = time.Now()
			})
			begin := time.Now()
			p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/", nil))
			want := p.IdleTimeout
			if closes {
				p.Close()
				want = 0
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if took := ended.Sub(begin); took != want {
				t.Errorf("closed after %v, want %v", took, want)
			}
		})
	}
}

// TestExpectContinue: the body waits until the upstream asks for it, or has been silent for a second; and is not sent
// if the upstream does not want it.
func TestExpectContinue(t *testing.T) {
	for name, tt := range map[string]struct {
		says   string
		pause  time.Duration
		status int
		body   string
	}{
		"asks":    {"HTTP/1.1 100 Continue\r\n\r\n", 0, 200, "abc"},
		"silent":  {"", continueLimit, 200, "abc"},
		"refuses": {"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n", 0, 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := ""
				p := serve(0, func(c net.Conn, r *bufio.Reader) {
					req, err := http.ReadRequest(r)
					if err != nil || req.Header.Get("Expect") != "100-continue" {
						t.Error(req, err)
						return
					}
					begin := time.Now()
					_, _ = io.WriteString(c, tt.says)
					b, _ := io.ReadAll(req.Body)
					if got = string(b); time.Since(begin) != tt.pause {
						t.Errorf("the body came after %v", time.Since(begin))
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				})
				r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader("abc"))
				r.Header.Set("Expect", "100-continue")
				w := httptest.NewRecorder()
				p.ServeHTTP(w, r)
				synctest.Wait()
				if w.Code != tt.status || got != tt.body {
					t.Errorf("%d, the upstream got %q", w.Code, got)
				}
			})
		})
	}
}
