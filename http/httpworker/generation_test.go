package httpworker

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker"
	"baton/worker/conns"
	"baton/worker/rawfd"
	"baton/worker/wire"
	"baton/worker/workertest"
)

// generation is a server that the test runs itself, on a listener of any kind, and drains by ending its context.
type generation struct {
	*server
	process *workertest.Process
	drain   context.CancelFunc
	served  chan error
}

func newGeneration(t testing.TB, h http.Handler, ln net.Listener) *generation {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	g := &generation{served: make(chan error, 1), process: idleProcess(t)}
	g.server = newServer(ctx, Settings{Handler: h}.withDefaults(), g.process.Env)
	g.drain = func() {
		g.env.Handover().Stop() // as a worker does: nothing arrives any more
		cancel()
	}
	o := &origin{ln: ln, Listener: conns.Listener{Moves: true, Key: worker.ListenerKey{Group: "g"}}}
	if err := g.Listen(&o.Listener); err != nil {
		t.Fatal(err)
	}
	g.origins = []*origin{o}
	if err := g.env.Handover().Open(); err != nil {
		t.Fatal(err)
	}
	g.env.Handover().Start()
	t.Cleanup(func() {
		g.env.Handover().Stop()
		_ = g.env.Handover().SetTakers(wire.Takers{}, nil)
	})
	go func() { g.served <- g.serve() }()
	return g
}

// idleProcess has an Env for a server that the test runs itself.
func idleProcess(t testing.TB) *workertest.Process {
	return workertest.Start(t, worker.Func(func(ctx context.Context, env *worker.Env) error {
		env.Ready()
		<-ctx.Done()
		return nil
	}), workertest.Options{})
}

// gives has the connections of one generation move to another.
func (g *generation) gives(t testing.TB, next *generation) {
	t.Helper()
	takes, inbox := next.env.Handover().Takes()
	fd, err := rawfd.Dup(inbox[0])
	if err != nil {
		t.Fatal(err)
	}
	m := wire.Takers{PIDs: []int{1}, Of: []int{0}, Sets: []wire.KeySet{takes.Keys}}
	if err := g.env.Handover().SetTakers(m, []int{fd}); err != nil {
		t.Fatal(err)
	}
}

func tcpListener(t testing.TB) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// A connection that nobody has taken is offered again when others take, and until then its next answer is the last.
func TestRefusedConnectionIsOfferedAgain(t *testing.T) {
	l := newLine(t, Settings{})
	all := l.dial(2)
	for _, c := range all {
		l.serve(c)
	}
	old := l.current
	l.start(workertest.Options{Process: "other"})
	old.Drain(time.Hour)
	all[0].send(get("/"))
	all[0].wantLast(200, "1")
	_ = all[0].Close()
	l.current = l.start(workertest.Options{})
	l.gone(old)
	l.serve(all[1])
}

// What net/http has read of a next request keeps the connection here, be it one byte.
func TestWhatHasBegunStays(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var requests atomic.Int64
	l := newLine(t, Settings{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if requests.Add(1) == 1 {
			entered <- struct{}{}
			<-leave
		}
	})})
	c := l.dial(1)[0]
	c.send(get("/") + "G")
	<-entered
	old := l.reload()
	leave <- struct{}{}
	c.want(200, "")
	if n := old.Handover().Counts.Given.Load() + old.Handover().Counts.Kept.Load(); n != 0 {
		t.Error("a connection with a request on it was offered")
	}
	c.send(get("/")[1:])
	if c.want(200, "").Close {
		t.Error("a connection that can move now is closed")
	}
	l.gone(old)
	c.send(get("/"))
	c.want(200, "")
}

// Connections move between two requests, from generation to generation, and clients notice nothing. A response that
// was under way may say that it is the last, and then the client dials again.
func TestMovingUnderLoad(t *testing.T) {
	const clients, reloads = 8, 20
	l := newLine(t, Settings{Handler: http.HandlerFunc(echo)})
	var requests atomic.Int64
	var given int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			h := hammer{addr: l.ln.Addr().String(), dribble: i%2 == 1}
			if err := h.until(stop, &requests); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	await(t, &requests, 500)
	for range reloads {
		old := l.reload()
		await(t, &requests, 500)
		l.gone(old)
		given += old.Handover().Counts.Given.Load()
	}
	close(stop)
	all.Wait()
	if given == 0 {
		t.Error("nothing moved")
	}
}

// Requests that a client has pipelined before it was told are answered, though the connection cannot move.
func TestPipelinedRequestsBeforeTheLast(t *testing.T) {
	t.Parallel()
	const n = 5
	for name, split := range map[string]int{"read together": n, "in the socket": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, 0)
			c := dialTo(t, g)
			send := func(from, to int) {
				all := ""
				for range to - from {
					all += get("/")
				}
				c.send(all)
			}
			send(0, split)
			<-g.entered
			send(split, n)
			awaitPending(t, c, n > split)
			g.Drain(time.Hour)
			for i := range n {
				g.leave <- struct{}{}
				if resp := c.want(200, "/"); resp.Close != (i == n-1) {
					t.Fatalf("answer %d: close %v", i, resp.Close)
				}
				if i < n-1 {
					<-g.entered
				}
			}
			c.wantEOF()
		})
	}
}

// awaitPending waits until what the client has sent was acknowledged, so that it lies in the server's socket.
func awaitPending(t *testing.T, c *client, any bool) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for begin, queued := time.Now(), 1; any && queued > 0; time.Sleep(time.Millisecond) {
		_ = raw.Control(func(fd uintptr) { queued, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		if err != nil || time.Since(begin) > never {
			t.Fatalf("%d bytes are on their way, %v", queued, err)
		}
	}
}
