package httpworker

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"baton/worker/workertest"
)

var limits = []int{100, 1024, 4095, 4096, 4097, 5000, 8192, 20000}

func TestSized(t *testing.T) {
	for _, n := range limits {
		for d := range 30 {
			if got := len(sized("/", n+d)); got != n+d {
				t.Fatalf("sized(%d) has %d bytes", n+d, got)
			}
		}
	}
}

func eachLimit(t *testing.T, test func(t *testing.T, limit int, dial func() *client)) {
	for _, limit := range limits {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			p := start(t, Settings{MaxHeaderSize: limit})
			test(t, limit, func() *client { return dial(t, p) })
		})
	}
}

func TestHeaderLimitFirstRequest(t *testing.T) {
	eachLimit(t, func(t *testing.T, limit int, dial func() *client) {
		c := dial()
		c.send(sized("/a", limit))
		c.want(200, "/a")
		c = dial()
		c.send(sized("/a", limit+1))
		c.wantLast(431, "")
	})
}

func TestHeaderLimitSecondRequest(t *testing.T) {
	eachLimit(t, func(t *testing.T, limit int, dial func() *client) {
		c := dial()
		for range 3 {
			c.send(sized("/a", limit))
			c.want(200, "/a")
		}
		c.send(sized("/b", limit+1))
		c.wantLast(431, "")
	})
}

func TestHeaderLimitPipelined(t *testing.T) {
	first := map[string]string{
		"GET":     get("/1"),
		"POST":    "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
		"chunked": "POST /1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	}
	first["body"] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1"
	for name, req := range first {
		t.Run(name, func(t *testing.T) {
			eachLimit(t, func(t *testing.T, limit int, dial func() *client) {
				if limit < len(req) {
					limit = 100
				}
				c := dial()
				c.send(req + sized("/2", limit) + sized("/3", limit) + sized("/4", limit+1))
				c.want(200, "/1")
				c.want(200, "/2")
				c.want(200, "/3")
				c.wantLast(431, "")
			})
		})
	}
}

// A client that pipelines lets net/http's background read take the first byte while a handler runs.
func TestHeaderLimitBehindBackgroundRead(t *testing.T) {
	eachLimit(t, func(t *testing.T, limit int, dial func() *client) {
		g := newGate(t, limit)
		c := dialTo(t, g)
		c.send(get("/1"))
		<-g.entered
		c.send(sized("/2", limit))
		g.leave <- struct{}{}
		c.want(200, "/1")
		<-g.entered
		c.send(sized("/3", limit+1))
		g.leave <- struct{}{}
		c.want(200, "/2")
		c.wantLast(431, "")
	})
}

func TestHeaderInPieces(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	_ = c.SetNoDelay(true)
	for range 3 {
		for _, piece := range []string{"G", "ET /a", "b HTTP/1.1\r", "\nHost: h\r\n\r", "\n"} {
			c.send(piece)
		}
		c.want(200, "/ab")
	}
}

func TestRefusedRequestIsAnswered(t *testing.T) {
	p := start(t, Settings{})
	for name, req := range map[string]string{
		"malformed": "nonsense\r\n\r\n",
		"no host":   "GET / HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, p)
			c.send(req + sized("/", 100000)) // unread bytes must not reset the connection before the answer is read
			c.wantLast(400, "")
			c = dial(t, p)
			c.send(get("/1") + req)
			c.want(200, "/1")
			c.wantLast(400, "")
		})
	}
}

func TestSlowHeaderIsClosed(t *testing.T) {
	p := start(t, Settings{ReceiveTimeout: 50 * time.Millisecond})
	c := dial(t, p)
	begin := time.Now()
	c.send("GET / HTTP/1.1\r\nHost:")
	c.wantEOF()
	if d := time.Since(begin); d < 50*time.Millisecond {
		t.Errorf("closed after %v", d)
	}
}

func TestSlowHeaderOfSecondRequestIsClosed(t *testing.T) {
	p := start(t, Settings{ReceiveTimeout: 50 * time.Millisecond})
	c := dial(t, p)
	c.send(get("/1"))
	c.want(200, "/1")
	c.send("GET / HTTP/1.1\r\nHo") // a line that breaks off, and has no colon
	c.wantEOF()
}

// A header that dribbles does not gain time with each byte.
func TestDribbledHeaderIsClosed(t *testing.T) {
	p := start(t, Settings{ReceiveTimeout: 100 * time.Millisecond})
	c := dial(t, p)
	begin := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	done := make(chan struct{})
	go func() { c.wantClosed(); close(done) }()
	for {
		select {
		case <-done:
			if d := time.Since(begin); d < 100*time.Millisecond {
				t.Errorf("closed after %v", d)
			}
			return
		case <-tick.C:
			_, _ = c.Write([]byte("G"))
		}
	}
}

func TestIdleTimeout(t *testing.T) {
	const idle = 150 * time.Millisecond
	p := start(t, Settings{IdleTimeout: idle, ReceiveTimeout: 10 * time.Millisecond})
	for _, before := range []string{"", "request", "line ends"} {
		t.Run("after "+before, func(t *testing.T) {
			begin := time.Now()
			c := dial(t, p)
			switch before {
			case "request":
				c.send(get("/"))
				c.want(200, "/")
			case "line ends": // that clients of old send behind a POST
				c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n1\r\n")
				c.want(200, "/1")
			}
			c.wantEOF()
			if d := time.Since(begin); d < idle {
				t.Errorf("closed after %v, want %v", d, idle)
			}
		})
	}
}

// The timer of the waiting phase fires while a handler runs, and must not be taken for the client's end.
func TestIdleTimeoutDoesNotCancelRequests(t *testing.T) {
	const idle = 30 * time.Millisecond
	long := time.NewTimer(0)
	<-long.C
	g := newGateWith(t, Settings{IdleTimeout: idle})
	c := dialTo(t, g)
	c.send(get("/1"))
	<-g.entered
	long.Reset(4 * idle)
	select {
	case <-long.C:
	case <-g.ctx().Done():
		t.Fatal("the request's context has ended")
	}
	g.leave <- struct{}{}
	c.want(200, "/1")
}

// The same for a body that comes slowly.
func TestIdleTimeoutDoesNotCancelBodies(t *testing.T) {
	const idle = 30 * time.Millisecond
	p := start(t, Settings{IdleTimeout: idle})
	c := dial(t, p)
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
	<-time.After(4 * idle)
	c.send("cd")
	c.want(200, "/abcd")
}

// Empty lines before a request, of which clients of old send one behind a POST, are ignored: as the first bytes, in
// pieces, and behind any request.
func TestEmptyLinesBeforeRequest(t *testing.T) {
	for name, p := range map[string]*workertest.Process{
		"tcp": start(t, Settings{}), "small": start(t, Settings{MaxHeaderSize: len(get("/a"))}),
	} {
		for _, before := range []string{"\r\n", "\r\n\r\n", "\n", "\r|\n|", "\r\n|"} {
			c := dial(t, p)
			_ = c.SetNoDelay(true)
			for range 3 {
				for piece := range strings.SplitSeq(before+get("/a"), "|") {
					c.send(piece)
					if strings.Contains(before, "|") {
						<-time.After(5 * time.Millisecond)
					}
				}
				c.want(200, "/a")
			}
			if c.send("\r\nGET / HTTP/1.1\r\n\r\n"); name == "tcp" {
				c.wantLast(400, "")
			}
		}
	}
	g := newGate(t, 1000)
	c := dialTo(t, g)
	c.send(get("/1") + "\r\n" + get("/2") + "\n") // net/http reads on while a handler runs
	for _, path := range []string{"/1", "/2", "/3"} {
		<-g.entered
		if path == "/2" {
			c.send("\r\n" + get("/3"))
		}
		g.leave <- struct{}{}
		c.want(200, path)
	}
	tc := dialTLS(t, startTLS(t, Settings{}), clientTLS("http/1.1"))
	_, _ = io.WriteString(tc.tls, "\r\n"+get("/a"))
	tc.want(200, "/a")
}

// What follows a request that may turn the connection into another protocol is not ours to drop.
func TestEmptyLinesOfAnotherProtocol(t *testing.T) {
	p := start(t, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		line, _ := rw.ReadString('x')
		_, _ = io.WriteString(nc, line)
	})})
	for _, head := range []string{
		"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nupgrade: raw\r\n\r\n",
	} {
		c := dial(t, p)
		c.send(head + "\r\n\n x")
		if got, err := io.ReadAll(c.r); err != nil || string(got) != "\r\n\n x" {
			t.Errorf("%q, %v", got, err)
		}
	}
}
