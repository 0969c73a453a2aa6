package site

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func startEcho(t *testing.T) string {
	t.Helper()
	return start(t, Config{Routes: []Route{{Path: "/", Echo: true}}}).URL
}

func TestEcho(t *testing.T) {
	url := startEcho(t)
	for _, n := range []int{0, 1, bufferSize - 1, bufferSize, bufferSize + 1, 5 << 20} {
		sent := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		// with a length and without
		for _, r := range []io.Reader{bytes.NewReader(sent), struct{ io.Reader }{bytes.NewReader(sent)}} {
			resp, err := http.Post(url, "text/x-test", r)
			if err != nil {
				t.Fatal(err)
			}
			if got := body(t, resp); got != string(sent) || resp.Header.Get("Content-Type") != "text/x-test" {
				t.Errorf("%d bytes: %d came back, %s", n, len(got), resp.Header)
			}
		}
	}
}

func TestEchoTellsLength(t *testing.T) {
	resp, err := http.Post(startEcho(t), "", strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "abc" || resp.ContentLength != 3 ||
		resp.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%q, length %d, %s", got, resp.ContentLength, resp.Header)
	}
}

// The answer begins while the request is still being sent.
func TestEchoStreams(t *testing.T) {
	url := startEcho(t)
	for _, header := range []string{"Content-Length: 9", "Transfer-Encoding: chunked"} {
		c, r := dial(t, url)
		chunk := func(s string) string { return s }
		if strings.HasPrefix(header, "Transfer") {
			chunk = func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
		}
		send(t, c, "POST / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n\r\n")
		send(t, c, chunk("abc"))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"abc", "def", "ghi"} {
			if s != "abc" {
				send(t, c, chunk(s))
			}
			got := make([]byte, 3)
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != s {
				t.Errorf("%s: %q, %v", header, got, err)
			}
		}
	}
}

// Half a body is no body: the client must not take it for the whole.
func TestEchoOfBrokenBodyBreaks(t *testing.T) {
	c, r := dial(t, startEcho(t))
	send(t, c, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "nonsense\r\n")
	if got, err := io.ReadAll(resp.Body); err == nil || string(got) != "abc" {
		t.Errorf("%q, %v", got, err)
	}
}

func dial(t *testing.T, url string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}

func send(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}
