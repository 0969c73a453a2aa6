package httpworker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// pieces cuts input by the low bits of cuts: how it is read must not matter.
func pieces(input []byte, cuts uint64) [][]byte {
	var all [][]byte
	for len(input) > 0 {
		n := min(len(input), 1+int(cuts&7)*int(cuts&7)*3)
		cuts = cuts>>3 | cuts<<61
		all = append(all, input[:n])
		input = input[n:]
	}
	return all
}

// FuzzH2Conn: what a client says in HTTP/2 makes no trouble, whenever the drain begins.
func FuzzH2Conn(f *testing.F) {
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	f.Add([]byte(preface+settings), uint64(0), uint8(0))
	f.Add([]byte(preface+settings+goAwayFrames), uint64(3), uint8(2))
	// GET / for :authority h, in literals
	f.Add([]byte(preface+settings+"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x84\x86\x41\x01h"), uint64(5), uint8(9))
	f.Fuzz(func(t *testing.T, input []byte, cuts uint64, drainAt uint8) {
		ln := newPairListener()
		g := newGeneration(t, http.HandlerFunc(echo), ln)
		client := ln.dial(t)
		go func() { _, _ = io.Copy(io.Discard, client) }()
		for i, p := range pieces(input, cuts) {
			if i == int(drainAt) {
				g.drain()
			}
			if _, err := client.Write(p); err != nil {
				break
			}
		}
		_ = client.Close()
		g.drain()
		ln.end()
		g.process.Stop(never)
		g.awaitEnd(t, input)
	})
}

func (g *generation) awaitEnd(t *testing.T, input []byte) {
	t.Helper()
	select {
	case err := <-g.served:
		if err != nil {
			t.Errorf("%q: %v", input, err)
		}
	case <-time.After(never):
		buf := make([]byte, 1<<20)
		t.Fatalf("%q: the server does not end\n%s", input, buf[:runtime.Stack(buf, true)])
	}
}

// chanListener accepts what comes through a channel.
type chanListener struct{ conns chan net.Conn }

func (l *chanListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *chanListener) Close() error { return nil }

// pairListener is a listener whose connections are socketpairs: no port is used up.
type pairListener struct {
	chanListener
}

func newPairListener() *pairListener {
	return &pairListener{chanListener{make(chan net.Conn, 10)}}
}

func (l *pairListener) Addr() net.Addr { return &net.UnixAddr{Name: "pair", Net: "unix"} }
func (l *pairListener) end()           { close(l.conns) }

func (l *pairListener) dial(t testing.TB) *net.UnixConn {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rawfd.CloseAll(p[:])
	var ends [2]net.Conn
	for i, fd := range p {
		d, err := rawfd.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(d), "pair")
		ends[i], err = net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	l.conns <- ends[1]
	_ = ends[0].SetDeadline(time.Now().Add(never))
	return ends[0].(*net.UnixConn)
}

// bodiless is the field of an answer to HEAD: who reads it does not know what was asked.
const bodiless = "X-Bodiless"

// tell answers with what it has understood. The path says what it does with the body.
func tell(w http.ResponseWriter, r *http.Request) {
	var body []byte
	var err error
	switch {
	case strings.HasPrefix(r.URL.Path, "/ignore"):
	case strings.HasPrefix(r.URL.Path, "/some"):
		body = make([]byte, 3)
		_, err = io.ReadFull(r.Body, body)
	default:
		body, err = io.ReadAll(r.Body)
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		panic(http.ErrAbortHandler)
	}
	if r.Method == http.MethodHead {
		w.Header().Set(bodiless, "1")
	}
	_, _ = fmt.Fprintf(w, "%s %q %q %q", r.Method, r.RequestURI, r.Host, body)
}

// talk sends input and returns the responses: their status and body.
func talk(t *testing.T, ln *pairListener, input []byte, cuts uint64, at func(piece int)) []string {
	t.Helper()
	c := ln.dial(t)
	defer func() { _ = c.Close() }()
	go func() {
		for i, p := range pieces(input, cuts) {
			at(i)
			if _, err := c.Write(p); err != nil {
				break
			}
		}
		_ = c.CloseWrite()
	}()
	var raw bytes.Buffer
	_, err := io.Copy(&raw, c)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%q: after %q: %v", input, raw.String(), err)
	}
	var all []string
	for r := bufio.NewReader(&raw); ; {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return all
		}
		var body []byte
		if resp.Header.Get(bodiless) == "" {
			body, err = io.ReadAll(resp.Body)
		}
		all = append(all, fmt.Sprintf("%d %s %v", resp.StatusCode, body, err))
	}
}

// FuzzServe: whatever bytes come in whatever pieces, the answers are those of a bare net/http server, up to the first
// request that is refused for its faults. A drain in between may end the connection with an answer; or it moves, and
// the next generation must be understood as if nothing had been: no byte of a request has stayed in the first one.
func FuzzServe(f *testing.F) {
	for _, s := range []string{
		get("/"), get("/a") + get("/b") + get("/c"), "\r\n" + get("/"),
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc\r\n" + get("/b"),
		"POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789" + get("/b"),
		"POST /some HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: x\r\n\r\n" +
			get("/b"),
		"POST /some HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\n\n" + get("/b"),
		"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc" + get("/b"),
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + get("/b"),
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + get("/b"), "GET / HTTP/1.0\r\n\r\n" + get("/b"),
		"GET / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + get("/"),
		"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\nabc", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + get("/"),
		"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + get("/"),
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + get("/"),
	} {
		f.Add([]byte(s), uint64(0o1234567), uint8(255))
		f.Add([]byte(s), uint64(0o777777), uint8(1))
	}
	plain := newPairListener()
	bare := &http.Server{
		Handler: http.HandlerFunc(tell), ErrorLog: log.New(io.Discard, "", 0), DisableGeneralOptionsHandler: true,
	}
	bare.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "*" && r.Method == http.MethodOptions {
			serveOptions(w, r)
			return
		}
		tell(w, r)
	})
	go func() { _ = bare.Serve(plain) }()
	f.Cleanup(func() {
		plain.end()
		_ = bare.Close()
	})
	f.Fuzz(func(t *testing.T, input []byte, cuts uint64, drainAt uint8) {
		if len(input) > 4000 || bytes.Contains(input, []byte("PRI ")) {
			return // the limit of a header is ours alone, and so is HTTP/2 without TLS
		}
		want := talk(t, plain, withoutEmptyLines(input), cuts, func(int) {})
		first, second := newPairListener(), newPairListener()
		old, next := newGeneration(t, http.HandlerFunc(tell), first), newGeneration(t, http.HandlerFunc(tell), second)
		old.gives(t, next)
		got := talk(t, first, input, cuts, func(i int) {
			if i == int(drainAt) {
				old.drain()
			}
		})
		compare(t, input, got, want, int(drainAt) < len(pieces(input, cuts)))
		old.drain()
		first.end()
		old.awaitEnd(t, input)
		next.drain()
		second.end()
		next.awaitEnd(t, input)
	})
}

func compare(t *testing.T, input []byte, got, want []string, drained bool) {
	t.Helper()
	for i, g := range got {
		if strings.HasPrefix(g, "400 ") && i == len(got)-1 && mayBeRefused(input) {
			return
		}
		if i >= len(want) || g != want[i] {
			t.Fatalf("%q: answer %d:\n got %q\nwant %q", input, i, got, want)
		}
	}
	if len(got) < len(want) && (!drained || len(got) == 0) {
		t.Fatalf("%q: too few answers:\n got %q\nwant %q", input, got, want)
	}
}

// withoutEmptyLines drops those before requests, which net/http refuses, and we where we can tell that they are no
// data.
func withoutEmptyLines(input []byte) (rest []byte) {
	from := bytes.NewReader(input)
	r := bufio.NewReaderSize(from, len(input)+16)
	at := func() int { return len(input) - from.Len() - r.Buffered() }
	for {
		_, _ = r.Peek(1)
		begin := len(input) - len(bytes.TrimLeft(input[at():], "\r\n"))
		_, _ = r.Discard(begin - at())
		req, err := http.ReadRequest(r)
		if err == nil {
			_, err = io.Copy(io.Discard, req.Body)
		}
		if err != nil {
			return append(rest, input[begin:]...)
		}
		rest = append(rest, input[begin:at()]...)
	}
}

// mayBeRefused reports whether there is anything in the input that only we refuse.
func mayBeRefused(input []byte) bool {
	if len(withoutEmptyLines(input)) < len(input) || bytes.IndexByte(input, 0x16) >= 0 {
		return true
	}
	lower := bytes.ToLower(input)
	for _, odd := range []string{"\n ", "\n\t", "\n:", "transfer-encoding:"} {
		if bytes.Contains(lower, []byte(odd)) {
			return true
		}
	}
	return bytes.Count(lower, []byte("\n")) != bytes.Count(lower, []byte("\r\n")) ||
		bytes.Count(lower, []byte("content-length:")) > 1
}
