package promises_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"baton/master/mastertest"
)

// smuggled is a request that must not be seen by anybody: it is part of another one, or follows one that is refused.
const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

// head is a request with these lines behind its first one.
func head(lines ...string) string {
	return "POST /PATH HTTP/1.1\r\nHost: x\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

const lastChunk = "0\r\n\r\n"

// smugglers are requests that servers and proxies have been found to disagree about.
var smugglers = []struct {
	name, bytes string
	status      int // 0: any refusal; a handler may have begun to answer
}{
	{"length and chunked", head("Content-Length: 4", "Transfer-Encoding: chunked") + lastChunk, 400},
	{"chunked and length", head("Transfer-Encoding: chunked", "Content-Length: 5") + lastChunk, 400},
	{"chunked and length in odd letters", head("tRANSFER-eNCODING: chunked", "cONTENT-lENGTH: 5") + lastChunk, 400},
	{"two lengths", head("Content-Length: 0", "Content-Length: 5") + "hello", 400},
	{"the same length twice", head("Content-Length: 5", "Content-Length: 5") + "hello", 400},
	{"a list of lengths", head("Content-Length: 5, 5") + "hello", 400},
	{"a length with a sign", head("Content-Length: +5") + "hello", 400},
	{"a negative length", head("Content-Length: -5") + "hello", 400},
	{"a hexadecimal length", head("Content-Length: 0x5") + "hello", 400},
	{"an empty length", head("Content-Length: ") + "hello", 400},
	{"a length that is too large", head("Content-Length: 18446744073709551621") + "hello", 400},
	{"a length before a space", head("Content-Length : 5") + "hello", 400},
	{"chunked before a space", head("Transfer-Encoding : chunked") + lastChunk, 400},
	{"chunked before a tab", head("Transfer-Encoding\t: chunked") + lastChunk, 400},
	{"identity", head("Transfer-Encoding: identity") + lastChunk, 501},
	{"chunked, identity", head("Transfer-Encoding: chunked, identity") + lastChunk, 501},
	{"identity, chunked", head("Transfer-Encoding: identity, chunked") + lastChunk, 501},
	{"gzip, chunked", head("Transfer-Encoding: gzip, chunked") + lastChunk, 501},
	{"xchunked", head("Transfer-Encoding: xchunked") + lastChunk, 501},
	{"quoted chunked", head(`Transfer-Encoding: "chunked"`) + lastChunk, 501},
	{"chunked twice", head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + lastChunk, 501},
	{"chunked and identity", head("Transfer-Encoding: chunked", "Transfer-encoding: identity") + lastChunk, 501},
	{"chunked after a vertical tab", head("Transfer-Encoding: \vchunked") + lastChunk, 400},
	{"chunked in HTTP/1.0", strings.Replace(head("Transfer-Encoding: chunked"), "1.1", "1.0", 1) + lastChunk, 400},
	{"folded", head("X: y", " Transfer-Encoding: chunked") + lastChunk, 400},
	{"folded by a tab", head("X: y", "\tz"), 400},
	{"a folded value", head("Transfer-Encoding:", " chunked") + lastChunk, 400},
	{"a folded first line", "POST /PATH HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n", 400},
	{"a space line", head("X: y", " "), 400},
	{"bare LF", strings.ReplaceAll(head(), "\r\n", "\n"), 400},
	{"bare LF behind the first line", "POST /PATH HTTP/1.1\nHost: x\r\n\r\n", 400},
	{"bare LF in a header", head("X: y\nTransfer-Encoding: chunked") + lastChunk, 400},
	{"bare LF at the end", "POST /PATH HTTP/1.1\r\nHost: x\r\n\n", 400},
	{"LF CR", "POST /PATH HTTP/1.1\r\nHost: x\r\nX: y\n\r\n\r\n", 400},
	{"bare CR", head("X: y\rTransfer-Encoding: chunked") + lastChunk, 400},
	{"CR CR LF", head("X: y\r"), 400},
	{"bare CR in the first line", "POST /PATH\rHTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"NUL in a value", head("X: a\x00b"), 400},
	{"NUL in a name", head("X\x00: ab"), 400},
	{"NUL in the path", "POST /PATH\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"no name", head(": y"), 400},
	{"no colon", head("Transfer-Encoding chunked"), 400},
	{"a space in a name", head("Transfer Encoding: chunked"), 400},
	{"two hosts", head("Host: y"), 400},
	{"the same host twice", head("Host: x"), 400},
	{"no host", "POST /PATH HTTP/1.1\r\n\r\n", 400},
	{"a host with a space", "POST /PATH HTTP/1.1\r\nHost: x y\r\n\r\n", 400},
	{"a host with a slash", "POST /PATH HTTP/1.1\r\nHost: x/y\r\n\r\n", 400},
	{"two spaces", "POST  /PATH HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a tab", "POST /PATH\tHTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a space at the end", "POST /PATH HTTP/1.1 \r\nHost: x\r\n\r\n", 400},
	{"no path", "POST HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"no version", "POST /PATH\r\nHost: x\r\n\r\n", 400},
	{"an odd version", "POST /PATH HTTP/1.10\r\nHost: x\r\n\r\n", 400},
	{"a small version", "POST /PATH http/1.1\r\nHost: x\r\n\r\n", 400},
	{"HTTP/2.0", "POST /PATH HTTP/2.0\r\nHost: x\r\n\r\n", 505},
	{"HTTP/0.9", "POST /PATH HTTP/0.9\r\nHost: x\r\n\r\n", 505},
	{"no method", " /PATH HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"an odd method", "P(ST /PATH HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	{"a long line", head("X: " + strings.Repeat("y", 9000)), 431},
	{"a long path", "POST /PATH" + strings.Repeat("y", 9000) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
	{"many lines", head(slices.Repeat([]string{"X: y"}, 2000)...), 431},
	{"an expectation", head("Expect: a-miracle", "Content-Length: 5") + "hello", 417},

	{"a chunk size that is none", head("Transfer-Encoding: chunked") + "zz\r\nhello\r\n" + lastChunk, 0},
	{"a negative chunk size", head("Transfer-Encoding: chunked") + "-5\r\nhello\r\n" + lastChunk, 0},
	{"a chunk size with 0x", head("Transfer-Encoding: chunked") + "0x5\r\nhello\r\n" + lastChunk, 0},
	{
		"a chunk size that overflows", head("Transfer-Encoding: chunked") + "10000000000000005\r\nhello\r\n" +
			lastChunk,
		0,
	},
	{"no chunk size", head("Transfer-Encoding: chunked") + "\r\nhello\r\n" + lastChunk, 0},
	{"a chunk extension with LF", head("Transfer-Encoding: chunked") + "5;a\nhello\r\n" + lastChunk, 0},
	{"a chunk size with LF", head("Transfer-Encoding: chunked") + "5\nhello\r\n" + lastChunk, 0},
	{"a chunk without an end", head("Transfer-Encoding: chunked") + "5\r\nhelloworld\r\n" + lastChunk, 0},
	{"a chunk that ends with LF", head("Transfer-Encoding: chunked") + "5\r\nhello\n" + lastChunk, 0},
	{"a broken trailer", head("Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\nX y\r\n\r\n", 0},
}

// upstream is a server that notes what it is asked.
type upstream struct {
	*httptest.Server
	mu   sync.Mutex
	seen []*http.Request
	raw  bytes.Buffer // all that it was sent
}

func newUpstream(tb testing.TB) *upstream {
	tb.Helper()
	u := &upstream{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		u.mu.Lock()
		defer u.mu.Unlock()
		u.seen = append(u.seen, r)
	}))
	u.Listener = tapListener{u.Listener, u}
	u.Start()
	tb.Cleanup(u.Close)
	return u
}

// tapListener notes what its connections are sent.
type tapListener struct {
	net.Listener
	u *upstream
}

func (l tapListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return tapConn{c, l.u}, err
}

type tapConn struct {
	net.Conn
	u *upstream
}

func (c tapConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.u.mu.Lock()
	defer c.u.mu.Unlock()
	c.u.raw.Write(p[:n])
	return n, err
}

// take returns what was seen since the last time.
func (u *upstream) take() (seen []*http.Request, raw string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	seen, raw = u.seen, u.raw.String()
	u.seen = nil
	u.raw.Reset()
	return seen, raw
}

// TestSmuggling: what servers and proxies have been found to understand in different ways is refused, and what follows
// it on the connection is never taken for a request, by us or by an upstream.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := unwatchedSite(t)
	s.routes = fmt.Sprintf("[[route]]\npath = \"/up\"\nproxy = %q\n[[route]]\npath = \"/smuggled\"\n"+
		"respond = \"SMUGGLED\"\n", up.URL)
	b := start(t, s)
	n := 0
	for _, tc := range smugglers {
		for _, path := range []string{"text", "echo", "up"} {
			for _, split := range []bool{false, true} {
				n++
				id := fmt.Sprintf("%s/%d", path, n)
				answer, err := tryExchange(t, s.listen[0], strings.ReplaceAll(tc.bytes, "PATH", id)+smuggled, split)
				seen, raw := up.take()
				// of the one before
				seen = slices.DeleteFunc(seen, func(r *http.Request) bool { return r.URL.Path != "/"+id })
				name := fmt.Sprintf("%s, /%s, in pieces %v", tc.name, path, split)
				want := fmt.Sprintf("HTTP/1.1 %d ", tc.status)
				switch {
				// as net/http ends a broken body
				case err != nil && (tc.status != 0 || !errors.Is(err, syscall.ECONNRESET)):
					t.Errorf("%s: the connection ends with %v after %q", name, err, answer)
				case strings.Contains(answer, "SMUGGLED") || strings.Contains(raw, "/smuggled"):
					t.Errorf("%s: smuggled: %q; the upstream saw %q", name, answer, raw)
				case strings.Count(answer, "HTTP/1.1 ") > 1:
					t.Errorf("%s: answered twice: %q", name, answer)
				case tc.status == 0 && len(seen) > 1, tc.status != 0 && len(seen) > 0:
					t.Errorf("%s: the upstream saw %q", name, raw)
				case tc.status != 0 && !strings.HasPrefix(strings.Replace(answer, "HTTP/1.0", "HTTP/1.1", 1), want):
					t.Errorf("%s: %q, want %q", name, answer, want)
				}
			}
		}
	}
	if st := b.AwaitSettled(); st.Crashes != 0 {
		t.Errorf("%+v", st)
	}
}

// exchange sends bytes, whole or in pieces, and returns all that is answered. The server is to close, without a reset.
func exchange(tb testing.TB, address, request string, pieces bool) string {
	tb.Helper()
	answer, err := tryExchange(tb, address, request, pieces)
	if err != nil {
		tb.Errorf("%q: the connection ends with %v after %q", request, err, answer)
	}
	return answer
}

// tryExchange is exchange with whatever end.
func tryExchange(tb testing.TB, address, request string, pieces bool) (string, error) {
	tb.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(mastertest.Timeout))
	size := len(request)
	if pieces {
		size = max(7, size/50)
	}
	for chunk := range slices.Chunk([]byte(request), size) {
		if _, err := c.Write(chunk); err != nil {
			break // it has been refused already
		}
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// TestProxyPolicy: what an upstream gets to see of a request that is meant to deceive it.
func TestProxyPolicy(t *testing.T) {
	t.Parallel()
	up := newUpstream(t)
	s := unwatchedSite(t)
	s.routes = fmt.Sprintf("[[route]]\npath = \"/up\"\nproxy = %q\n", up.URL)
	start(t, s)
	answer := exchange(t, s.listen[0], "POST http://other/up?a=1;b=%zz HTTP/1.1\r\nHost: x\r\n"+
		"Connection: close, X-Forwarded-For, X-Secret, Content-Length\r\nX-Secret: 1\r\nX-Kept: 2\r\n"+
		"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: bank\r\n"+
		"Forwarded: for=10.0.0.1\r\n"+
		"Keep-Alive: timeout=5\r\nProxy-Authorization: Basic eA==\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n"+
		"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 5\r\n\r\nhello", false)
	seen, raw := up.take()
	if len(seen) != 1 || !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Fatalf("%q; the upstream saw %q", answer, raw)
	}
	want := http.Header{
		"X-Kept": {"2"}, "X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"other"},
		"Content-Length": {"5"}, "User-Agent": {""}, "Accept-Encoding": nil,
	}
	for name, values := range seen[0].Header {
		if w, ok := want[name]; !ok || !slices.Equal(w, values) {
			t.Errorf("%s: %q, want %q", name, values, w)
		}
	}
	if r := seen[0]; r.Host != strings.TrimPrefix(up.URL, "http://") || r.RequestURI != "/up?a=1;b=%zz" ||
		r.Method != http.MethodPost {
		t.Errorf("%s %s, host %s", r.Method, r.RequestURI, r.Host)
	}

	// A client that asks for HTTP/2 in the clear would speak to the upstream past all routes.
	answer = exchange(t, s.listen[0],
		"GET /up HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"+
			"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", false)
	if seen, raw := up.take(); len(seen) != 1 || seen[0].Header.Get("Upgrade") != "" || strings.Contains(raw, "HTTP2") {
		t.Errorf("%q; the upstream saw %q", answer, raw)
	}
}
