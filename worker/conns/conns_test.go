package conns

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"baton/worker/handover"
	"baton/worker/rawfd"
	"baton/worker/wire"
)

// patience is long enough for whatever a test waits for: it ends tests that fail.
const patience = 20 * time.Second

var key = handover.Key{Group: "g"}

// worker is an Engine with its surroundings.
type worker struct {
	*Engine
	t      *testing.T
	from   *Listener
	drain  context.CancelFunc
	stop   chan struct{}
	cutNow chan struct{}
	ended  chan error
	served chan net.Conn // what Serve was called with
}

func newWorker(t *testing.T, change func(*Config)) *worker {
	t.Helper()
	w := &worker{
		t: t, from: &Listener{Key: key, Moves: true}, stop: make(chan struct{}), cutNow: make(chan struct{}),
		ended: make(chan error, 1), served: make(chan net.Conn, 100),
	}
	log := slog.New(slog.DiscardHandler)
	c := Config{
		Handover: handover.New(log), Counters: &Counters{}, Log: log, Stop: w.stop, Cut: w.cutNow,
		Limits: Limits{Idle: patience, Message: patience},
		Serve:  func(nc net.Conn, _ *Listener) { w.served <- nc },
	}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.Engine = New(ctx, c)
	w.drain = func() {
		w.Handover.Stop() // as a worker does: nothing arrives any more
		cancel()
	}
	if err := w.Listen(w.from); err != nil {
		t.Fatal(err)
	}
	if err := w.Handover.Open(); err != nil {
		t.Fatal(err)
	}
	w.Handover.Start()
	t.Cleanup(func() {
		w.Handover.Stop()
		_ = w.Handover.SetTakers(wire.Takers{}, nil)
	})
	go func() { w.ended <- w.Run() }()
	return w
}

// gives has the connections of w move to others, from now on.
func (w *worker) gives(to ...*worker) {
	w.t.Helper()
	var m wire.Takers
	var fds []int
	for i, o := range to {
		takes, inbox := o.Handover.Takes()
		fd, err := rawfd.Dup(inbox[0])
		if err != nil {
			w.t.Fatal(err)
		}
		m.PIDs, m.Of, m.Sets = append(m.PIDs, i+1), append(m.Of, i), append(m.Sets, takes.Keys)
		fds = append(fds, fd)
	}
	if err := w.Handover.SetTakers(m, fds); err != nil {
		w.t.Fatal(err)
	}
}

// stopNow ends w as the whole program's end does.
func (w *worker) stopNow() {
	close(w.stop)
	w.Handover.Withdraw()
	w.drain()
}

// pair is a TCP connection: the client's end, and the worker's, counted.
func (w *worker) pair() (client *net.TCPConn, ours net.Conn) {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _, _ = c.Close(), nc.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), w.Counters.Conns.Track(nc)
}

// read is what a Read has given.
type read struct {
	text string
	err  error
}

// conn adds a connection that says that it waits, and returns what its reader reads.
func (w *worker) conn() (*net.TCPConn, *Conn, <-chan read) {
	w.t.Helper()
	client, ours := w.pair()
	c := &Conn{}
	if err := w.Add(c, ours, w.from, nil); err != nil {
		w.t.Fatal(err)
	}
	return client, c, reads(c)
}

func reads(c *Conn) <-chan read {
	all := make(chan read, 100)
	go func() {
		b := make([]byte, 100)
		for {
			c.Idle(false)
			n, err := c.Read(b)
			all <- read{string(b[:n]), err}
			if err != nil {
				_ = c.Close()
				return
			}
		}
	}()
	return all
}

func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("")
	}
}

func (w *worker) wantEnd(cutConns, cutRequests int64) {
	w.t.Helper()
	if err := receive(w.t, w.ended, "end"); err != nil {
		w.t.Error(err)
	}
	c := w.Counters
	if c.CutConns.Load() != cutConns || c.CutRequests.Load() != cutRequests || c.Conns.Load() != 0 ||
		c.Active.Load() != 0 {
		w.t.Errorf("cut %d connections and %d requests, want %d and %d; open %d, active %d",
			c.CutConns.Load(), c.CutRequests.Load(), cutConns, cutRequests, c.Conns.Load(), c.Active.Load())
	}
}

// What the table says, once more and from the other side: for each event the phases in which it happens.
func TestTransitions(t *testing.T) {
	all := map[event]map[phase]phase{
		handshook: {handshaking: fresh},
		greets:    {fresh: greeting},
		polled:    {fresh: idle},
		begins:    {fresh: receiving, idle: receiving},
		completes: {fresh: active, idle: active, greeting: active, receiving: active, active: active},
		done:      {idle: idle, greeting: idle, receiving: idle, active: idle},
		detaches:  {fresh: detached, idle: detached, receiving: detached, active: detached},
		offered:   {fresh: transferring, idle: transferring, parked: transferring},
		refused:   {transferring: idle},
		taken:     {transferring: moved},
		arrives:   {none: parked},
		wakes:     {parked: fresh},
		lingers: {
			fresh: lingering, idle: lingering, greeting: lingering, receiving: lingering, active: lingering,
			detached: lingering,
		},
		shuts: {
			handshaking: closed, fresh: closed, idle: closed, greeting: closed, receiving: closed, active: closed,
			detached:     closed,
			transferring: closed, parked: closed, moved: closed, lingering: closed,
		},
	}
	for e := range events {
		for p := range phases {
			if got, want := transitions[p][e], all[e][p]; got != want {
				t.Errorf("event %d in phase %d: %d, want %d", e, p, got, want)
			}
		}
	}
	for p := handshaking; p < closed; p++ {
		if transitions[p][shuts] != closed {
			t.Errorf("phase %d has no end", p)
		}
	}
}

func TestConnMoves(t *testing.T) {
	t.Parallel()
	old, next := newWorker(t, nil), newWorker(t, nil)
	old.gives(next)
	client, _, got := old.conn()
	_, _ = io.WriteString(client, "one")
	if r := receive(t, got, "first message"); r.text != "one" || r.err != nil {
		t.Fatal(r)
	}
	old.drain()
	if r := receive(t, got, "move"); !errors.Is(r.err, ErrMoved) {
		t.Fatal(r)
	}
	old.wantEnd(0, 0)
	c := &Conn{}
	if err := next.Add(c, receive(t, next.served, "connection"), next.from, nil); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(client, "two")
	if r := receive(t, reads(c), "second message"); r.text != "two" || r.err != nil {
		t.Fatal(r)
	}
	for begin := time.Now(); next.Counters.Active.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("it is not idle again")
		}
	}
	next.drain()
	close(next.cutNow)
	next.wantEnd(1, 0)
}

// A connection that nobody takes stays, and moves when somebody does.
func TestConnIsOfferedAgain(t *testing.T) {
	t.Parallel()
	old, next := newWorker(t, nil), newWorker(t, nil)
	full := newWorker(t, func(c *Config) { c.Handover.Room = func() int { return 0 } })
	old.gives(full)
	client, c, got := old.conn()
	old.drain()
	for begin := time.Now(); old.Handover.Counts.Kept.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("it was not offered")
		}
	}
	for begin := time.Now(); c.Moves(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("it believes to move")
		}
	}
	_, _ = io.WriteString(client, "still here")
	if r := receive(t, got, "message"); r.text != "still here" {
		t.Fatal(r)
	}
	old.gives(next)
	if r := receive(t, got, "move"); !errors.Is(r.err, ErrMoved) {
		t.Fatal(r)
	}
	old.wantEnd(0, 0)
	_ = receive(t, next.served, "connection").Close()
}

// A connection that arrives waits in the pool, without a Conn, until something comes; so it does over several workers.
func TestParkedConnMoves(t *testing.T) {
	t.Parallel()
	pool := func(c *Config) { c.Pool = true }
	w := []*worker{newWorker(t, pool), newWorker(t, pool), newWorker(t, pool)}
	client, _, got := w[0].conn()
	for i := range 2 {
		w[i].gives(w[i+1])
		w[i].drain()
		w[i].wantEnd(0, 0)
		// The giver knows that the connection is taken a moment before it is parked.
		for begin := time.Now(); w[i+1].parked() != 1; time.Sleep(time.Millisecond) {
			if time.Since(begin) > patience {
				t.Fatal("the connection is not parked")
			}
		}
	}
	if r := receive(t, got, "move"); !errors.Is(r.err, ErrMoved) {
		t.Fatal(r)
	}
	if len(w[1].served)+len(w[2].served) != 0 {
		t.Error("a connection that only moves is served")
	}
	_, _ = io.WriteString(client, "x")
	_ = receive(t, w[2].served, "connection").Close()
	w[2].drain()
	w[2].wantEnd(0, 0)
}

func TestStopEndsWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorker(t, func(c *Config) { c.Limits.Idle = 0 })
	_, _, got := w.conn()
	begin := time.Now()
	w.stopNow()
	if r := receive(t, got, "end"); !errors.Is(r.err, io.EOF) || time.Since(begin) < stopWait {
		t.Errorf("%v after %v", r, time.Since(begin))
	}
	w.wantEnd(1, 0)
}

func TestCutCounts(t *testing.T) {
	t.Parallel()
	w := newWorker(t, nil)
	_, _, idle := w.conn()
	client, ours := w.pair()
	busy := &Conn{}
	if err := w.Add(busy, ours, w.from, nil); err != nil {
		t.Fatal(err)
	}
	_, _ = client.Write([]byte("x"))
	if _, err := busy.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if n := w.Counters.Active.Load(); n != 1 {
		t.Errorf("%d are active", n)
	}
	w.drain()
	close(w.cutNow)
	w.wantEnd(2, 1)
	if r := receive(t, idle, "end of the idle one"); r.err == nil {
		t.Error("it reads on")
	}
}

// Of those that wait, the ones that have done so for longest are closed when there is no room, with and without a limit
// of that time; one that has just connected may not have come to write its message, and one that was answered may be
// closed at once.
func TestEvict(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{patience, 0} {
		w := newWorker(t, func(c *Config) { c.Limits.Idle = limit })
		add := func(used bool, silent time.Duration) *Conn {
			_, ours := w.pair()
			c := &Conn{}
			if err := w.Add(c, ours, w.from, nil); err != nil {
				t.Fatal(err)
			}
			c.phase, c.used = idle, used
			c.next(1)
			c.clock.since = time.Now().Add(-silent)
			return c
		}
		add(false, newGrace/10)
		old, answered := add(false, 2*newGrace), add(true, 0)
		if idle := w.idle(); len(idle) != 2 || idle[0] != old || idle[1] != answered {
			t.Errorf("%d of 3 are idle, want the silent one and then the one that was answered", len(idle))
		}
		got := reads(old)
		w.Evict()
		if r := receive(t, got, "end"); !errors.Is(r.err, io.EOF) || w.Counters.Evicted.Load() != 1 {
			t.Errorf("%v, %d evicted", r, w.Counters.Evicted.Load())
		}
	}
}

// What nobody has taken is offered again when its time has come; if nothing moves any more by then, that time means
// nothing.
func TestRetryThatHasPassed(t *testing.T) {
	t.Parallel()
	w := newWorker(t, nil)
	_, ours := w.pair()
	c := &Conn{}
	if err := w.Add(c, ours, w.from, nil); err != nil {
		t.Fatal(err)
	}
	c.phase, c.declined, c.retry = idle, declinedByAll, time.Now().Add(-time.Second)
	if step := c.next(1); step != stepRead || !c.clock.armed.After(time.Now()) {
		t.Errorf("step %d, until %v", step, c.clock.armed)
	}
}

// prefixed is a protocol whose messages begin with a byte that is none of a pause, and end with '.'.
type prefixed struct{ body atomic.Bool }

func (p *prefixed) Take(b []byte) (int, bool) {
	n := copy(b, strings.TrimLeft(string(b), " "))
	return n, n > 0
}

func (p *prefixed) InBody() bool { return p.body.Load() }

// A message that has begun has its time, a body may pause for its own, and what is no message changes nothing.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorker(t, func(c *Config) {
		c.Limits = Limits{Idle: patience, Message: 50 * time.Millisecond, Body: 60 * time.Millisecond}
	})
	client, ours := w.pair()
	c, proto := &Conn{}, &prefixed{}
	if err := w.Add(c, ours, w.from, proto); err != nil {
		t.Fatal(err)
	}
	_, _ = client.Write([]byte("  "))
	time.AfterFunc(80*time.Millisecond, func() { _, _ = client.Write([]byte(" a")) })
	b := make([]byte, 10)
	if n, err := c.Read(b); string(b[:n]) != "a" || err != nil {
		t.Fatalf("%q, %v", b[:n], err)
	}
	c.Complete()
	proto.body.Store(true)
	begin := time.Now()
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) < w.Limits.Body {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	proto.body.Store(false)
	c.Idle(true) // its next message has begun
	begin = time.Now()
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) < w.Limits.Message {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	if b, err := io.ReadAll(client); len(b) > 0 || err != nil {
		t.Errorf("%q, %v: half a message is answered", b, err)
	}
}

// A client that connects and does not begin a handshake has no more time than one for the handshake itself.
func TestSilentTLSClientHasLessTime(t *testing.T) {
	t.Parallel()
	w := newWorker(t, nil)
	_, ours := w.pair()
	c := &Conn{}
	if err := w.Add(c, ours, &Listener{TLS: &tls.Config{}}, nil); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[time.Duration]time.Duration{
		0: handshakeTimeout, time.Minute: handshakeTimeout, time.Second: time.Second,
	} {
		w.Limits.Idle = limit
		begin := time.Now()
		c.tls.below.await(c.handshakeLimit())
		if end := c.tls.silentUntil(); end.Before(begin.Add(want)) || end.After(time.Now().Add(want)) {
			t.Errorf("%v: it has %v", limit, end.Sub(begin))
		}
	}
}
