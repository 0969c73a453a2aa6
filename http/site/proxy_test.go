package site

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

func TestProxy(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Up", "1")
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "%s %s host=%s for=%s fhost=%s proto=%s ae=%q body=%s", r.Method, r.RequestURI, r.Host,
			r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Forwarded-Proto"),
			r.Header.Get("Accept-Encoding"), b)
	}))
	defer up.Close()
	s := start(t, Config{Routes: []Route{{Path: "/api", Proxy: up.URL}, {Path: "/base", Proxy: up.URL + "/deep"}}})
	upHost, host := strings.TrimPrefix(up.URL, "http://"), strings.TrimPrefix(s.URL, "http://")
	for _, tt := range []struct{ path, want string }{
		{"/api/x%2Fy?q=1;2", "/api/x%2Fy?q=1;2"}, // neither stripped nor decoded
		{"/api", "/api"},
		{"/base/x", "/deep/base/x"},
	} {
		req, _ := http.NewRequest("POST", s.URL+tt.path, strings.NewReader("hi"))
		req.Header.Set("X-Forwarded-For", "10.0.0.1") // a lie
		req.Header.Set("Accept-Encoding", "identity")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`POST %s host=%s for=127.0.0.1 fhost=%s proto=http ae="identity" body=hi`, tt.want, upHost,
			host)
		if got := body(t, resp); got != want || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Up") != "1" {
			t.Errorf("%s: %s\n got %s\nwant %s", tt.path, resp.Status, got, want)
		}
	}
}

func TestProxyUpstreamDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	_ = ln.Close()
	s := start(t, Config{Routes: []Route{{Path: "/", Proxy: "http://" + addr}}})
	resp, got := get(t, s.URL)
	if want := "502 bad gateway\n"; resp.StatusCode != http.StatusBadGateway || got != want {
		t.Errorf("%s %q, want %q", resp.Status, got, want)
	}
}

// Connections to the upstream are kept: many requests at once leave as many, and the next ones use them.
func TestProxyKeepsConnections(t *testing.T) {
	const atOnce = 20
	var mu sync.Mutex
	opened := 0
	var gate sync.WaitGroup
	gate.Add(atOnce)
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/together" {
			gate.Done()
			gate.Wait()
		}
	}))
	up.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if st == http.StateNew {
			opened++
		}
	}
	up.Start()
	defer up.Close()
	h, err := New(Config{Routes: []Route{{Path: "/", Proxy: up.URL}}}, self, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/together", nil)) })
	}
	all.Wait()
	for range 3 * atOnce {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	mu.Lock()
	defer mu.Unlock()
	if opened != atOnce {
		t.Errorf("%d connections, want %d", opened, atOnce)
	}
}

// A streamed answer arrives piece by piece: the upstream waits until the client has got the last one.
func TestProxyStreams(t *testing.T) {
	next := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "piece %d\n", i)
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	}))
	defer up.Close()
	s := start(t, Config{Routes: []Route{{Path: "/", Proxy: up.URL}}})
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	r := bufio.NewReader(resp.Body)
	for i := range 3 {
		if line, err := r.ReadString('\n'); line != fmt.Sprintf("piece %d\n", i) {
			t.Errorf("%q, %v", line, err)
		}
		next <- struct{}{}
	}
}

// An upstream that breaks off in the middle of its answer breaks off ours.
func TestProxyUpstreamBreaksOff(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer up.Close()
	s := start(t, Config{Routes: []Route{{Path: "/", Proxy: up.URL}}})
	resp, err := http.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got, err := io.ReadAll(resp.Body); err == nil || string(got) != "half" {
		t.Errorf("%q, %v", got, err)
	}
}
