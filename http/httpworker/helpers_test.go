package httpworker

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"baton/worker/workertest"
)

// never bounds what must not happen by time, and what must come.
const never = 20 * time.Second

func start(t testing.TB, s Settings) *workertest.Process {
	t.Helper()
	if s.Handler == nil {
		s.Handler = http.HandlerFunc(echo)
	}
	return workertest.Start(t, &Worker{Settings: s}, workertest.Options{})
}

// echo answers with the path and the body.
func echo(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, r.URL.Path+string(b))
}

// client is a TCP client that does nothing by itself.
type client struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, p *workertest.Process) *client {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(never))
	return &client{TCPConn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.TCPConn, s); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads a response.
func (c *client) answer() (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("response: %v", err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("body: %v", err)
	}
	return resp, string(b)
}

// want reads a response and checks it.
func (c *client) want(status int, body string) *http.Response {
	c.t.Helper()
	resp, got := c.answer()
	if resp.StatusCode != status || status == 200 && got != body {
		c.t.Fatalf("got %d %q, want %d %q", resp.StatusCode, got, status, body)
	}
	return resp
}

// wantLast is want for a response that says that it is the last, and checks that it is, without a reset.
func (c *client) wantLast(status int, body string) {
	c.t.Helper()
	if resp := c.want(status, body); !resp.Close {
		c.t.Fatal("the response does not say Connection: close")
	}
	c.wantEOF()
}

func (c *client) wantEOF() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
		rest, _ := c.r.Peek(c.r.Buffered())
		c.t.Fatalf("got %q %q, %v, want EOF", b, rest, err)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" }

// sized is a GET request of exactly n bytes.
func sized(path string, n int) string {
	head := "GET " + path + " HTTP/1.1\r\nHost: h\r\n"
	const maxLine = 1000 // so that lines of all kinds cross the ends of net/http's buffer
	for len(head)+2 < n {
		line := min(n-len(head)-2, maxLine)
		if rest := n - len(head) - 2 - line; rest > 0 && rest < 10 {
			line -= 10
		}
		head += "X-F:" + strings.Repeat("x", line-6) + "\r\n"
	}
	return head + "\r\n"
}

// wantClosed reads until the connection ends in whatever way.
func (c *client) wantClosed() {
	c.t.Helper()
	if _, err := io.Copy(io.Discard, c.r); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("still open after %v", never)
	}
}
