package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"baton/http/httpworker"
	"baton/worker/workertest"
)

// wire is a client of a worker that proxies, byte by byte.
type wire struct {
	net.Conn
	*bufio.Reader
	t *testing.T
}

func (w *wire) Read(p []byte) (int, error) { return w.Reader.Read(p) }

// dialWire connects to a worker whose upstream plays one connection.
func dialWire(t *testing.T, upstream func(c net.Conn, r *bufio.Reader)) *wire {
	t.Helper()
	front := serve(0, upstream)
	t.Cleanup(front.Close)
	p := workertest.Start(t, httpworker.Handler(front), workertest.Options{})
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second)) // a test that hangs says where
	return &wire{c, bufio.NewReader(c), t}
}

func (w *wire) say(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.Conn, text); err != nil {
		w.t.Error(err)
	}
}

// response reads one, with its body.
func (w *wire) response() (*http.Response, string) {
	w.t.Helper()
	resp, err := http.ReadResponse(w.Reader, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Error(err)
	}
	return resp, string(b)
}

const chunkedHi = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n" +
	"2\r\nhi\r\n0\r\nX-End: 1\r\n\r\n"

// TestHTTP10: a client of HTTP/1.0 gets no chunks, no trailers and no early hints, and keeps its connection if it has
// asked for that and the length is known.
func TestHTTP10(t *testing.T) {
	for name, tt := range map[string]struct {
		keeps        bool
		upstream     string
		length       string
		want         string
		staysOpen    bool
		neverContain string
	}{
		"chunked":             {false, chunkedHi, "", "hi", false, "chunked"},
		"chunked, keep-alive": {true, chunkedHi, "", "hi", true, "X-End"}, // as a whole it has a length
		"length":              {false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "2", "hi", false, "keep-alive"},
		"length, keep-alive":  {true, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "2", "hi", true, "chunked"},
		"early hints": {
			false, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "2", "hi",
			false, "103",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialWire(t, func(c net.Conn, r *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					_, _ = io.WriteString(c, tt.upstream)
				}
			})
			request := "GET / HTTP/1.0\r\nHost: x\r\n\r\n"
			if tt.keeps {
				request = "GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
			}
			c.say(request)
			if tt.staysOpen {
				if resp, body := c.response(); body != "hi" || resp.Header.Get("Connection") != "keep-alive" {
					t.Errorf("%v %q", resp.Header, body)
				}
				c.say("GET / HTTP/1.0\r\nHost: x\r\n\r\n")
			}
			all, err := io.ReadAll(c)
			head, body, _ := strings.Cut(string(all), "\r\n\r\n")
			if err != nil || !strings.HasPrefix(head, "HTTP/1.0 200 OK\r\n") ||
				body != tt.want || strings.Contains(head, tt.neverContain) {
				t.Errorf("%q, %v", all, err)
			}
		})
	}
}

// TestEarlyAnswer: an upstream that answers before it has the body, and closes, is heard while the client still sends.
// The rest of a long body is not waited for.
func TestEarlyAnswer(t *testing.T) {
	for name, framing := range map[string]string{
		"length": "Content-Length: 1000000\r\n\r\nabc", "chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialWire(t, func(c net.Conn, r *bufio.Reader) {
				req, err := http.ReadRequest(r)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.ReadFull(req.Body, make([]byte, 3))
				_, _ = io.WriteString(c, "HTTP/1.1 413 X\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
			})
			c.say("POST / HTTP/1.1\r\nHost: x\r\n" + framing)
			if resp, body := c.response(); resp.StatusCode != 413 || body != "big" {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
			if name == "chunked" { // it may end soon
				c.say("0\r\n\r\n")
				return
			}
			if _, err := c.ReadByte(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
	}
}

// TestDuplexHTTP1: both bodies stream at the same time in HTTP/1.1 as well.
func TestDuplexHTTP1(t *testing.T) {
	t.Parallel()
	c := dialWire(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
		_, _ = io.Copy(c, req.Body)
	})
	c.say("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"one", "two", "end"} {
		c.say("3\r\n" + s + "\r\n")
		got := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, got); string(got) != s {
			t.Fatalf("%q, %v", got, err)
		}
	}
	c.say("0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q %v", rest, err)
	}
	// the connection is in step
	c.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if resp, _ := c.response(); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// TestClientGoneInResponse: the upstream's connection is closed when the client leaves in the middle of a response.
func TestClientGoneInResponse(t *testing.T) {
	t.Parallel()
	closed := make(chan error, 1)
	c := dialWire(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = http.ReadRequest(r)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		_, err := r.ReadByte()
		closed <- err
	})
	c.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(resp.Body, make([]byte, 4))
	_ = c.Close()
	if err := <-closed; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
