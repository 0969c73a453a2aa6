package httpworker

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"baton/worker/workertest"
)

func TestSelfTest(t *testing.T) {
	if err := selfTest(); err != nil {
		t.Fatal(err)
	}
}

func TestExpectContinue(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
		if resp, _ := c.answer(); resp.StatusCode != 100 {
			t.Fatalf("got %d, want 100", resp.StatusCode)
		}
		c.send("abc")
		c.want(200, "/abc")
	}
}

func TestBodiesAndPipelines(t *testing.T) {
	p := start(t, Settings{MaxHeaderSize: 200})
	c := dial(t, p)
	bodies := []string{
		get("/a"),
		"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nTrailer: x\r\n\r\n",
	}
	for range 20 {
		c.send(strings.Join(bodies, ""))
		for range bodies {
			c.want(200, "/a")
		}
	}
}

// An unread body is read by net/http before the next request, and belongs to no header.
func TestUnreadBody(t *testing.T) {
	p := start(t, Settings{MaxHeaderSize: 100, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})})
	c := dial(t, p)
	for range 3 {
		c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat("x", 10000) +
			sized("/", 100))
		c.want(200, "")
		c.want(200, "")
	}
}

func TestOptionsStar(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	c.send("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" + get("/1"))
	c.want(200, "")
	c.want(200, "/1")
}

func TestClientsEndIsNoticed(t *testing.T) {
	g := newGate(t, 0)
	c := dialTo(t, g)
	c.send(get("/"))
	<-g.entered
	_ = c.Close()
	<-g.ctx().Done()
	g.leave <- struct{}{}
}

func TestPanicIsNoCrash(t *testing.T) {
	p := start(t, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("for the test")
		}
		echo(w, r)
	})})
	c := dial(t, p)
	c.send(get("/panic"))
	c.wantClosed()
	c = dial(t, p)
	c.send(get("/1"))
	c.want(200, "/1")
	if n := p.Counters.Requests.Load(); n != 1 {
		t.Errorf("%d requests answered, want 1", n)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	workertest.Start(t, Handler(http.HandlerFunc(echo)), workertest.Options{Listeners: []net.Listener{ln}})
	hc := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer hc.CloseIdleConnections()
	for range 2 {
		resp, err := hc.Post("http://h/", "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "/body" {
			t.Fatalf("got %q, %v", b, err)
		}
	}
}

// net/http copies a file with sendfile if the connection is an io.ReaderFrom that gets the file itself.
func TestSendfile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newServer(t.Context(), Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, name)
	})}.withDefaults(), idleProcess(t).Env)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	from := make(chan io.Reader, 1)
	go func() { _ = s.http.Serve(&spy{listener{Listener: ln, s: s, origin: &origin{}}, from}) }()
	defer func() { _ = s.http.Close() }()
	resp, err := http.Get("http://" + ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if n, err := io.Copy(io.Discard, resp.Body); n != 1<<20 || err != nil {
		t.Fatalf("got %d bytes, %v", n, err)
	}
	r := <-from
	if l, ok := r.(*io.LimitedReader); ok {
		r = l.R
	}
	if _, ok := r.(*os.File); !ok {
		t.Errorf("ReadFrom got a %T", r)
	}
}

type spy struct {
	listener
	from chan io.Reader
}

func (l *spy) Accept() (net.Conn, error) {
	c, err := l.listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{c.(*conn), l.from}, nil
}

type spyConn struct {
	*conn
	from chan io.Reader
}

func (c *spyConn) ReadFrom(r io.Reader) (int64, error) {
	c.from <- r
	return c.conn.ReadFrom(r)
}

// A hijacker that copies from the connection gets what was held back too.
func TestHijackedCopy(t *testing.T) {
	got := make(chan string, 1)
	p := start(t, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = nc.Close() }()
		early, _ := rw.Reader.Peek(rw.Reader.Buffered())
		var b strings.Builder
		b.Write(early)
		_, _ = io.Copy(&b, nc)
		got <- b.String()
	})})
	c := dial(t, p)
	c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly ")
	c.send("late")
	_ = c.CloseWrite()
	if s := <-got; s != "early late" {
		t.Errorf("got %q", s)
	}
}
