package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// front starts an upstream and a proxy to it, which speaks HTTP/2 as well.
func front(t *testing.T, upstream http.HandlerFunc) *httptest.Server {
	t.Helper()
	up := httptest.NewServer(upstream)
	t.Cleanup(up.Close)
	addr := up.Listener.Addr().String()
	p := &Proxy{Upstream: &Upstream{
		Dial:    func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) },
		Timeout: time.Minute, IdleTimeout: time.Second,
	}}
	t.Cleanup(p.Close)
	s := httptest.NewUnstartedServer(p)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// ask sends a request in HTTP/1.1 and in HTTP/2.
func ask(t *testing.T, s *httptest.Server, newRequest func() *http.Request, check func(*http.Response, string)) {
	t.Helper()
	for _, h2 := range []bool{false, true} {
		tr := transport(s, h2)
		resp, err := tr.RoundTrip(newRequest())
		if err != nil {
			t.Fatal(err)
		}
		if (resp.ProtoMajor == 2) != h2 {
			t.Fatal(resp.Proto)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("%s: %v", resp.Proto, err)
		}
		_ = resp.Body.Close()
		check(resp, string(b))
		tr.CloseIdleConnections()
	}
}

func transport(s *httptest.Server, h2 bool) *http.Transport {
	tr := s.Client().Transport.(*http.Transport).Clone()
	tr.TLSClientConfig.NextProtos = nil
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetHTTP1(!h2)
	tr.Protocols.SetHTTP2(h2)
	return tr
}

func request(s *httptest.Server, method string, body io.Reader) *http.Request {
	r, err := http.NewRequest(method, s.URL+"/a%2Fb?q=1;2", body)
	if err != nil {
		panic(err)
	}
	return r
}

// TestFields: what is about one connection stays on it; what a proxy says is said by it; all else goes through as it
// is.
func TestFields(t *testing.T) {
	s := front(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "Forwarded", "Upgrade"} {
			if v := r.Header.Get(name); v != "" {
				t.Errorf("the upstream got %s: %s", name, v)
			}
		}
		if r.RequestURI != "/a%2Fb?q=1;2" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" ||
			r.Header.Get("X-Forwarded-Proto") != "https" ||
			!slices.Equal(r.Header["X-Two"], []string{"a", "b"}) || r.Header.Get("User-Agent") != "" {
			t.Errorf("%s %v", r.RequestURI, r.Header)
		}
		w.Header()["Content-Type"] = nil
		w.Header()["X-Two"] = []string{"c", "d"}
		w.Header().Set("Keep-Alive", "timeout=1")
		w.Header().Set("Date", "long ago")
		_, _ = io.WriteString(w, "<html>")
	})
	ask(t, s, func() *http.Request {
		r := request(s, "GET", nil)
		r.Header = http.Header{
			"X-Two": {"a", "b"}, "X-Forwarded-For": {"10.0.0.1"}, "Forwarded": {"for=10.0.0.1"},
			"X-Forwarded-Proto": {"gopher"}, "User-Agent": nil,
		}
		return r
	}, func(resp *http.Response, body string) {
		h := resp.Header
		if !slices.Equal(h["X-Two"], []string{"c", "d"}) || h.Get("Keep-Alive") != "" || h.Get("Content-Type") != "" ||
			h.Get("Date") != "long ago" || body != "<html>" {
			t.Errorf("%v %q", h, body)
		}
	})
}

// TestConnectionFields: what Connection names is about the connection.
func TestConnectionFields(t *testing.T) {
	s := front(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Hop") != "" || r.Header.Get("X-End") != "1" {
			t.Errorf("%v", r.Header)
		}
	})
	r := request(s, "GET", nil)
	r.Header = http.Header{"Connection": {"x-hop, keep-alive"}, "X-Hop": {"1"}, "X-End": {"1"}}
	resp, err := transport(s, false).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// TestBodies: bodies of all sizes go both ways, with a length and without, and so do trailers.
func TestBodies(t *testing.T) {
	s := front(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.ContentLength >= 0 {
			w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		}
		_, _ = w.Write(b)
		w.Header().Set("X-Sum", fmt.Sprint(len(b), r.Trailer.Get("X-End")))
		w.Header().Set(http.TrailerPrefix+"X-Late", "1")
	})
	for _, n := range []int{0, 1, 100, bufferSize - 1, bufferSize, bufferSize + 1, 3 << 20} {
		sent := strings.Repeat("0123456789abcde\n", n/16+1)[:n]
		for _, chunked := range []bool{false, true} {
			ask(t, s, func() *http.Request {
				if !chunked {
					return request(s, "PUT", strings.NewReader(sent))
				}
				r := request(s, "PUT", io.MultiReader(strings.NewReader(sent)))
				r.Trailer = http.Header{"X-End": {"end"}}
				return r
			}, func(resp *http.Response, got string) {
				end := ""
				if chunked {
					end = "end"
				}
				if got != sent || resp.Trailer.Get("X-Sum") != fmt.Sprint(n, end) || resp.Trailer.Get("X-Late") != "1" {
					t.Errorf("%s, %d bytes, chunked %v: %d came back, %v", resp.Proto, n, chunked, len(got),
						resp.Trailer)
				}
			})
		}
	}
}

// TestStatuses: responses without a body, and their lengths.
func TestStatuses(t *testing.T) {
	s := front(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case "HEAD":
			w.Header().Set("Content-Length", "5")
		case "DELETE":
			w.WriteHeader(http.StatusNoContent)
		case "GET":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		}
	})
	for method, status := range map[string]int{"HEAD": 200, "DELETE": 204, "GET": 304, "POST": 200} {
		ask(t, s, func() *http.Request { return request(s, method, nil) }, func(resp *http.Response, body string) {
			if resp.StatusCode != status || body != "" || method == "HEAD" && resp.ContentLength != 5 {
				t.Errorf("%s %s: %s, length %d, %q", resp.Proto, method, resp.Status, resp.ContentLength, body)
			}
		})
	}
}

// TestEarlyHints: informational responses go through.
func TestEarlyHints(t *testing.T) {
	s := front(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "hi")
	})
	var hints atomic.Int32
	ask(t, s, func() *http.Request {
		r := request(s, "GET", nil)
		return r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if code == http.StatusEarlyHints && h.Get("Link") == "</a.css>" {
					hints.Add(1)
				}
				return nil
			},
		}))
	}, func(resp *http.Response, body string) {
		if body != "hi" || resp.Header.Get("Link") != "" {
			t.Errorf("%q %v", body, resp.Header)
		}
	})
	if hints.Load() != 2 {
		t.Errorf("%d early hints, want 2", hints.Load())
	}
}

// TestDuplex: both bodies stream at the same time.
func TestDuplex(t *testing.T) {
	s := front(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		_ = rc.Flush()
		in := bufio.NewReader(r.Body)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, strings.ToUpper(line))
			_ = rc.Flush()
		}
	})
	for _, h2 := range []bool{false, true} {
		in, out := io.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		context.AfterFunc(ctx, func() { _ = in.CloseWithError(ctx.Err()) })
		resp, err := transport(s, h2).RoundTrip(request(s, "POST", in).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		back := bufio.NewReader(resp.Body)
		for range 3 {
			_, _ = io.WriteString(out, "abc\n")
			if line, err := back.ReadString('\n'); line != "ABC\n" {
				t.Fatal(resp.Proto, line, err)
			}
		}
		_ = out.Close()
		if _, err := back.ReadByte(); !errors.Is(err, io.EOF) {
			t.Error(resp.Proto, err)
		}
	}
}

// TestClientGoesAway: the upstream hears of it.
func TestClientGoesAway(t *testing.T) {
	begun, gone := make(chan struct{}, 1), make(chan struct{}, 1)
	s := front(t, func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	if _, err := s.Client().Do(request(s, "GET", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-gone
}

// TestUpgrade: an upgraded connection is one, with what either side has said too early, and ends when either ends.
func TestUpgrade(t *testing.T) {
	s := front(t, func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\nX-A: " +
			"b\r\n\r\n" +
			"WELCOME\n")
		_ = rw.Flush()
		for {
			line, err := rw.ReadString('\n')
			if err != nil || line == "bye\n" {
				return
			}
			_, _ = rw.WriteString(strings.ToUpper(line))
			_ = rw.Flush()
		}
	})
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	p := s.Config.Handler
	plain := httptest.NewServer(p)
	defer plain.Close()
	if c, err = net.Dial("tcp", plain.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nearly\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("X-A") != "b" {
		t.Fatal(resp, err)
	}
	_, _ = io.WriteString(c, "late\nbye\n")
	if got, err := io.ReadAll(r); string(got) != "WELCOME\nEARLY\nLATE\n" {
		t.Errorf("%q, %v", got, err)
	}
}
