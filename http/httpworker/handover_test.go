package httpworker

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"baton/worker/workertest"
)

// line is a line of generations that serve one socket, and share a hand-over queue.
type line struct {
	t       *testing.T
	ln      net.Listener
	queue   *workertest.Queue
	s       Settings
	current *workertest.Process
	number  atomic.Int64 // of the last generation
}

func newLine(t *testing.T, s Settings) *line {
	t.Helper()
	l := &line{t: t, ln: tcpListener(t), queue: workertest.NewQueue(t), s: s}
	l.current = l.start(workertest.Options{})
	return l
}

// start starts a generation, which answers with its number and the body.
func (l *line) start(o workertest.Options) *workertest.Process {
	l.t.Helper()
	n := strconv.FormatInt(l.number.Add(1), 10)
	s := l.s
	if s.Handler == nil {
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, n+string(b))
		})
	}
	if o.Process != "" {
		s.Handlers = map[string]http.Handler{o.Process: s.Handler}
	}
	o.Listeners, o.Queue = []net.Listener{l.ln}, l.queue
	return workertest.Start(l.t, &Worker{Settings: s}, o)
}

// reload replaces the generation and returns the old one, which drains.
func (l *line) reload() (old *workertest.Process) {
	l.t.Helper()
	old, l.current = l.current, l.start(workertest.Options{})
	old.Drain(time.Hour)
	return old
}

// hang starts a generation that is given connections, and takes none.
func (l *line) hang() {
	l.t.Helper()
	p := workertest.Prepare(l.t, Handler(nil), workertest.Options{Listeners: []net.Listener{l.ln}, Queue: l.queue})
	p.AwaitReady()
	p.Hang()
}

// gone waits for the end of a generation, which has cut nothing.
func (l *line) gone(p *workertest.Process) {
	l.t.Helper()
	if err := p.Wait(); err != nil {
		l.t.Error(err)
	}
	c := p.Counters
	if c.CutConns.Load()+c.CutRequests.Load() != 0 || c.Conns.Load() != 0 || c.Active.Load() != 0 {
		l.t.Errorf("cut %d connections and %d requests; open %d, active %d", c.CutConns.Load(), c.CutRequests.Load(),
			c.Conns.Load(), c.Active.Load())
	}
}

func (l *line) dial(n int) []*client {
	l.t.Helper()
	all := make([]*client, n)
	for i := range all {
		all[i] = dial(l.t, l.current)
	}
	return all
}

// serve asks and wants an answer of the current generation, on a connection that stays.
func (l *line) serve(c *client) {
	l.t.Helper()
	c.send(get("/"))
	l.answered(c)
}

func (l *line) answered(c *client) {
	l.t.Helper()
	if c.want(200, strconv.FormatInt(l.number.Load(), 10)).Close {
		l.t.Error("a connection that has moved is closed")
	}
}

// Every connection lives through all generations, whatever its client does.
func TestConnectionsLiveThroughGenerations(t *testing.T) {
	const generations, n = 20, 5
	l := newLine(t, Settings{})
	idle, seldom, silent, pipelined, dribble := l.dial(n), l.dial(n), l.dial(n), l.dial(n), l.dial(n)
	for _, c := range slices.Concat(idle, seldom) {
		l.serve(c)
	}
	for i := range generations {
		for _, c := range dribble { // has begun: it stays until it was answered
			c.send(get("/")[:5])
		}
		begun := l.number.Load()
		awaitConns(t, l.current, 5*n)
		old := l.reload()
		for _, c := range dribble {
			c.send(get("/")[5:])
		}
		for _, c := range dribble {
			resp, body := c.answer()
			if who, _ := strconv.ParseInt(body, 10, 64); who < begun || resp.Close {
				t.Fatalf("generation %q, close %v", body, resp.Close)
			}
		}
		for _, c := range pipelined {
			c.send(strings.Repeat(get("/"), 3))
		}
		for _, c := range pipelined {
			for range 3 {
				if resp, body := c.answer(); resp.StatusCode != 200 || resp.Close {
					t.Fatalf("pipelined: %d %q, close %v", resp.StatusCode, body, resp.Close)
				}
			}
		}
		l.gone(old)
		for _, c := range idle {
			l.serve(c)
		}
		if i%7 == 6 {
			for _, c := range seldom {
				l.serve(c)
			}
		}
	}
	for _, c := range silent {
		l.serve(c)
	}
	if open := l.current.Counters.Conns.Load(); open != 5*n {
		t.Errorf("%d connections in the end, want %d", open, 5*n)
	}
}

// awaitConns waits until a worker has so many connections.
func awaitConns(t *testing.T, p *workertest.Process, n int64) {
	t.Helper()
	for begin := time.Now(); p.Counters.Conns.Load() != n; time.Sleep(time.Millisecond) {
		if time.Since(begin) > never {
			t.Fatalf("%d connections, want %d", p.Counters.Conns.Load(), n)
		}
	}
}

// A connection that has moved, and waits, expires when it would have without.
func TestMovedConnectionKeepsItsIdleTime(t *testing.T) {
	const idle = 2 * time.Second
	l := newLine(t, Settings{IdleTimeout: idle})
	var took time.Duration
	for range 5 { // a busy machine may be late, but not each time
		c := l.dial(1)[0]
		begin := time.Now()
		l.serve(c)
		for range 3 {
			<-time.After(idle / 5)
			l.gone(l.reload())
		}
		c.wantEOF()
		// If the time began anew with each move, it would be closed after 1.6 times the time. Its end is rounded to
		// milliseconds.
		if took = time.Since(begin); took < idle+idle/2 {
			break
		}
	}
	if took < idle-10*time.Millisecond || took > idle+idle/2 {
		t.Errorf("closed after %v, want %v", took, idle)
	}
	for begin := time.Now(); l.current.Counters.Conns.Load() != 0 &&
		time.Since(begin) < never; time.Sleep(time.Millisecond) {
		continue
	}
	l.gone(l.reload()) // and it is forgotten
}

// A client that closes while its connection waits costs nothing.
func TestMovedConnectionIsClosedByItsClient(t *testing.T) {
	l := newLine(t, Settings{})
	c := l.dial(1)[0]
	l.serve(c)
	l.gone(l.reload())
	awaitConns(t, l.current, 1)
	_ = c.Close()
	awaitConns(t, l.current, 0)
}

// A request that has come before its connection moves travels with it.
func TestUnreadRequestTravels(t *testing.T) {
	const n = 50
	l := newLine(t, Settings{})
	all := l.dial(n)
	for _, c := range all {
		l.serve(c)
	}
	old := l.current
	l.current = l.start(workertest.Options{})
	go func() { old.Drain(time.Hour) }()
	for i, c := range all {
		body := strings.Repeat("x", 1+i*100)
		c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	}
	for i, c := range all { // by the old or the new, each once
		resp, body := c.answer()
		if resp.StatusCode != 200 || body[1:] != strings.Repeat("x", 1+i*100) {
			t.Errorf("%d %.20q", resp.StatusCode, body)
		}
		_ = c.Close()
	}
	l.gone(old)
}

// Whom the next generation does not know stays, and is served once more.
func TestRefusedConnectionLingers(t *testing.T) {
	l := newLine(t, Settings{})
	idle, silent := l.dial(1)[0], l.dial(1)[0]
	l.serve(idle)
	old := l.current
	awaitConns(t, old, 2)
	l.start(workertest.Options{Process: "other"})
	old.Drain(time.Hour)
	for _, c := range []*client{idle, silent} {
		c.send(get("/"))
		c.wantLast(200, "1")
		_ = c.Close()
	}
	l.gone(old)
}

// So does one that has come from another worker.
func TestRefusedGuestLingers(t *testing.T) {
	l := newLine(t, Settings{})
	c := l.dial(1)[0]
	l.serve(c)
	l.gone(l.reload())
	awaitConns(t, l.current, 1)
	l.start(workertest.Options{Process: "other"})
	l.current.Drain(time.Hour)
	c.send(get("/"))
	c.wantLast(200, "2")
	_ = c.Close()
	l.gone(l.current)
}

// A stop that comes while connections are between two workers does not wait for anybody who might take them.
func TestStopDuringTheMove(t *testing.T) {
	for name, guests := range map[string]bool{"its own": false, "that came from another": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLine(t, Settings{})
			all := l.dial(10)
			for _, c := range all[:5] {
				l.serve(c)
			}
			awaitConns(t, l.current, 10)
			if guests {
				l.gone(l.reload())
				awaitConns(t, l.current, 10)
			}
			l.hang()
			l.current.Drain(time.Hour)
			l.current.Stop(time.Hour)
			if err := l.current.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is still between two workers at the deadline holds up nobody either.
func TestCutDuringTheMove(t *testing.T) {
	t.Parallel()
	l := newLine(t, Settings{})
	all := l.dial(10)
	awaitConns(t, l.current, 10)
	l.gone(l.reload())
	for _, c := range all[:3] {
		l.serve(c) // in net/http's hands, the others wait
	}
	l.hang()
	l.current.Drain(100 * time.Millisecond)
	if err := l.current.Wait(); err != nil {
		t.Error(err)
	}
}

// With handover = false a connection stays, and is closed after its next answer.
func TestConnectionsStayWithoutHandover(t *testing.T) {
	t.Parallel()
	l := newLine(t, Settings{})
	l.current.Drain(0)
	l.current = l.start(workertest.Options{Stay: true})
	idle, silent := l.dial(1)[0], l.dial(1)[0]
	l.serve(idle)
	awaitConns(t, l.current, 2)
	old := l.reload()
	for _, c := range []*client{silent, idle} {
		c.send(get("/"))
		c.wantLast(200, "2")
		_ = c.Close()
	}
	l.gone(old)
	if n := old.Handover().Counts.Given.Load() + old.Handover().Counts.Kept.Load(); n != 0 {
		t.Errorf("%d connections were offered", n)
	}
}
