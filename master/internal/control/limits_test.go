package control

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", s.ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// However many say nothing, half of something or nonsense, who asks is answered, and of them only the newest are kept.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	s, c := serve(t, &fake{})
	for i := range 1000 {
		words := []string{
			"", "GET /status HTTP/1.1\r\nHost: x\r\nX-", "\x00\xff\r\n\r\n", "POST /reload HTTP/1.1\r\n",
		}[i%4]
		if _, err := io.WriteString(dial(t, s), words); err != nil {
			t.Fatal(err)
		}
	}
	if r := do(t, c, "GET /status"); r.StatusCode != http.StatusOK {
		t.Error(r.Status, r.body)
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		open := s.open
		s.mu.Unlock()
		if open <= maxIdle+1 {
			break
		}
		if time.Since(begin) > headerTime/2 { // later they would be closed anyway
			t.Fatalf("%d connections are open", open)
		}
	}
}

// With few descriptors clients get few of them.
func TestShare(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) }()
	for limit, want := range map[uint64]int{4: 1, 64: 8, 800: 64, 1 << 20: 64} {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE,
			&unix.Rlimit{Cur: min(limit, before.Max), Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		if got := share(64); got != want && limit < before.Max {
			t.Errorf("of %d files: %d, want %d", limit, got, want)
		}
	}
}

// What is too large is refused, and a body is not waited for.
func TestLargeRequests(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, &fake{})
	for request, want := range map[string]string{
		"GET /status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100_000): "HTTP/1.1 431 ",
		"POST /resize?workers=3 HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
			"Content-Length: 1000000000\r\n\r\nworkers=4&": "HTTP/1.1 200 ",
		"POST /resize HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n": "HTTP/1.1 400 ",
	} {
		c := dial(t, s)
		_, _ = io.WriteString(c, request) // it may be refused before its end
		answer, _ := io.ReadAll(io.LimitReader(c, 13))
		if string(answer) != want {
			t.Errorf("%.60q: %q, want %q", request, answer, want)
		}
	}
}

func TestWaitingRequests(t *testing.T) {
	t.Parallel()
	f := &fake{entered: make(chan struct{}), release: make(chan struct{})}
	_, c := serve(t, f)
	var all sync.WaitGroup
	for range maxWaiting {
		all.Go(func() { do(t, c, "GET /reload/7") })
		<-f.entered
	}
	if r := do(t, c, "GET /status"); r.StatusCode != http.StatusServiceUnavailable ||
		r.Header.Get("Retry-After") == "" {
		t.Error(r.Status, r.body)
	}
	close(f.release)
	all.Wait()
	if r := do(t, c, "GET /status"); r.StatusCode != http.StatusOK {
		t.Error(r.Status, r.body)
	}
}
