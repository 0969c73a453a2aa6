package httpworker

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// courier is a mover: it gives connections to another server, as descriptors, the way the next generation gets them.
type courier struct {
	to      chan net.Conn
	refuses bool
	asked   chan struct{}
}

func (m *courier) move(c *conn) bool {
	m.asked <- struct{}{}
	if m.refuses {
		return false
	}
	nc, err := duplicate(c.socket)
	if err != nil {
		return false
	}
	m.to <- nc
	return true
}

func (m *courier) wants(*conn) bool { return true }

func duplicate(sock syscall.Conn) (net.Conn, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	_ = raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) })
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "moved")
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// chanListener accepts what comes through a channel.
type chanListener struct {
	net.Listener
	conns chan net.Conn
}

func (l *chanListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *chanListener) Close() error { return nil }

// generation is a server that the test runs itself, and drains by ending its context.
type generation struct {
	*server
	drain  context.CancelFunc
	served chan error
	addr   string
}

func newGeneration(t *testing.T, h http.Handler, ln net.Listener, m mover) *generation {
	ctx, cancel := context.WithCancel(t.Context())
	g := &generation{drain: cancel, served: make(chan error, 1), addr: ln.Addr().String()}
	g.server = newServer(ctx, Settings{Handler: h}.withDefaults(), idleEnv(t).Env)
	g.mover = m
	go func() { g.served <- g.serve([]*listener{{Listener: ln, s: g.server}}) }()
	return g
}

func tcpListener(t *testing.T) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// end ends accepting too, as the listeners of an Env do by themselves.
func (g *generation) end(ln net.Listener) {
	g.drain()
	_ = ln.Close()
}

func (g *generation) client(t *testing.T) *client {
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetReadDeadline(time.Now().Add(never))
	return &client{TCPConn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}
}

func says(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

func TestMoverTakesIdleConnections(t *testing.T) {
	ln := tcpListener(t)
	m := &courier{to: make(chan net.Conn, 10), asked: make(chan struct{}, 10)}
	old := newGeneration(t, says("old"), ln, m)
	newGeneration(t, says("new"), &chanListener{ln, m.to}, nil)
	silent, idle := old.client(t), old.client(t)
	idle.send(get("/"))
	idle.want(200, "old")
	old.end(ln)
	if err := <-old.served; err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{silent, idle} {
		for range 2 {
			c.send(get("/"))
			if c.want(200, "new").Close {
				t.Error("a connection that has moved is closed")
			}
		}
	}
	close(m.to)
}

func TestMoverRefuses(t *testing.T) {
	ln := tcpListener(t)
	m := &courier{asked: make(chan struct{}, 10), refuses: true}
	old := newGeneration(t, says("old"), ln, m)
	c := old.client(t)
	c.send(get("/"))
	c.want(200, "old")
	old.end(ln)
	<-m.asked
	for c := range old.conns {
		c.poke() // asks again
	}
	<-m.asked
	c.send(get("/"))
	c.wantLast(200, "old")
}

// What net/http has read of a next request keeps the connection here, be it one byte.
func TestMoverLeavesWhatHasBegun(t *testing.T) {
	ln := tcpListener(t)
	m := &courier{to: make(chan net.Conn, 10), asked: make(chan struct{}, 10)}
	entered, leave := make(chan struct{}), make(chan struct{})
	var requests atomic.Int64
	old := newGeneration(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			entered <- struct{}{}
			<-leave
		}
	}), ln, m)
	c := old.client(t)
	c.send(get("/") + "G")
	<-entered
	old.end(ln)
	leave <- struct{}{}
	c.want(200, "")
	if len(m.asked) != 0 {
		t.Error("the mover was asked for a connection with a request on it")
	}
	c.send(get("/")[1:])
	if c.want(200, "").Close {
		t.Error("a connection that can move now is closed")
	}
	<-m.asked
}

// Connections move between two requests, from generation to generation, and clients notice nothing. A response that
// was under way may say that it is the last, and then the client dials again.
func TestMovingUnderLoad(t *testing.T) {
	const clients, reloads = 8, 20
	asked := make(chan struct{}, 1e6)
	ln := newMultiListener(t)
	m := &courier{to: make(chan net.Conn, 100), asked: asked}
	gen := newGeneration(t, http.HandlerFunc(echo), ln.listener(nil), m)
	var requests atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			h := hammer{addr: gen.addr, dribble: i%2 == 1}
			if err := h.until(stop, &requests); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	await(t, &requests, 500)
	for range reloads {
		next := &courier{to: make(chan net.Conn, 100), asked: asked}
		newer := newGeneration(t, http.HandlerFunc(echo), ln.listener(m.to), next)
		gen.drain()
		await(t, &requests, 500)
		gen, m = newer, next
	}
	close(stop)
	all.Wait()
	if len(asked) == 0 {
		t.Error("nothing moved")
	}
}

// multiListener is one socket for generations that follow each other.
type multiListener struct {
	net.Listener
	fresh chan net.Conn
}

func newMultiListener(t *testing.T) *multiListener {
	l := &multiListener{Listener: tcpListener(t), fresh: make(chan net.Conn)}
	go func() {
		for {
			c, err := l.Listener.Accept()
			if err != nil {
				return
			}
			l.fresh <- c
		}
	}()
	return l
}

// listener accepts new connections, and those that have moved.
func (l *multiListener) listener(moved chan net.Conn) net.Listener {
	return &eitherListener{multiListener: l, moved: moved}
}

type eitherListener struct {
	*multiListener
	moved chan net.Conn
}

func (l *eitherListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.fresh:
		return c, nil
	case c := <-l.moved:
		return c, nil
	}
}

func (l *eitherListener) Close() error { return nil }
