package site

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const upstreamLimit = 150 * time.Millisecond

// silent is an upstream that takes connections and does nothing with them.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return "http://" + ln.Addr().String()
}

func startUpstreamed(t *testing.T, upstream string) *httptest.Server {
	t.Helper()
	return start(t, Config{UpstreamTimeout: upstreamLimit, Routes: []Route{{Path: "/", Proxy: upstream}}})
}

// An upstream that does not answer is given up, also when it does not even read the request's body.
func TestUpstreamDoesNotAnswer(t *testing.T) {
	s := startUpstreamed(t, silent(t))
	for _, body := range []io.Reader{nil, strings.NewReader("abc"), io.LimitReader(zeros{}, 64<<20)} {
		begin := time.Now()
		req, _ := http.NewRequest("POST", s.URL, body)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if want := "504 gateway timeout\n"; resp.StatusCode != 504 ||
			string(b) != want {
			t.Errorf("%s %q", resp.Status, b)
		}
		if took := time.Since(begin); took < upstreamLimit {
			t.Errorf("given up after %v", took)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// The time that the client takes for its body is not the upstream's.
func TestUpstreamHasTimeWhileClientIsSlow(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}))
	defer up.Close()
	s := startUpstreamed(t, up.URL)
	c, r := dial(t, s.URL)
	send(t, c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
	for _, b := range "abcd" {
		<-time.After(upstreamLimit / 2)
		send(t, c, string(b))
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); resp.StatusCode != 200 || got != "abcd" {
		t.Errorf("%s %q", resp.Status, got)
	}
}

// An answer whose upstream pauses for too long is broken off: the client sees that it is not whole.
func TestUpstreamStallsInItsAnswer(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer up.Close()
	resp, err := http.Get(startUpstreamed(t, up.URL).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got, err := io.ReadAll(resp.Body); err == nil || string(got) != "half" {
		t.Errorf("%q, %v", got, err)
	}
}

// A client whose body does not come, or is broken, is at fault, not the upstream.
func TestBadBody(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter,
		r *http.Request,
	) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer up.Close()
	for name, route := range map[string]Route{"proxy": {Path: "/", Proxy: up.URL}, "echo": {Path: "/", Echo: true}} {
		h, err := New(Config{Routes: []Route{route}}, self, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// as httpworker ends a body
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(upstreamLimit))
			h.ServeHTTP(w, r)
		}))
		for sent, status := range map[string]int{
			"Content-Length: 3\r\n\r\n":                      408,
			"Transfer-Encoding: chunked\r\n\r\n":             408,
			"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n": 400,
		} {
			c, r := dial(t, s.URL)
			send(t, c, "POST / HTTP/1.1\r\nHost: x\r\n"+sent)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(name, sent, err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != status || !strings.HasPrefix(string(b), fmt.Sprint(status)) {
				t.Errorf("%s, %q: %s %q %v, want %d", name, sent, resp.Status, b, err, status)
			}
		}
		s.Close()
	}
}
