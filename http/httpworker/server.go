package httpworker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"baton/worker"
)

// stopWait is how long an idle connection is kept when the whole program stops.
const stopWait = time.Second

// A mover takes waiting connections away, to another process.
type mover interface {
	// move gives the connection away, and reports whether it did; it may block. If it did not, the connection waits
	// on as before, until it is poked. It is called only while draining, with a connection of which nothing was read
	// that is not answered, on the connection's own goroutine: nobody else reads or writes it.
	move(c *conn) bool
	// wants reports whether there is somebody to give the connection to.
	wants(c *conn) bool
}

// server is one Serve of a Worker.
type server struct {
	Settings
	env   *worker.Env
	http  *http.Server
	mover mover // nil: connections stay
	lot   *lot  // those that came from other workers and wait; nil: none come

	arrivals chan net.Conn // to net/http: what did not come by a listener, or had to wait
	ended    chan struct{} // closed when nobody is served any more
	origins  map[worker.ListenerKey]origin

	ctx      context.Context // ends when the drain begins
	stopping atomic.Bool
	shedding atomic.Int64 // connections that are about to close because there is no room

	open  sync.WaitGroup // connections, and listeners that accept
	mu    sync.Mutex
	conns map[*conn]struct{}
}

type connKey struct{}

func newServer(ctx context.Context, settings Settings, env *worker.Env) *server {
	s := &server{
		Settings: settings, env: env, ctx: ctx, conns: map[*conn]struct{}{}, origins: map[worker.ListenerKey]origin{},
		arrivals: make(chan net.Conn), ended: make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:        s,
		MaxHeaderBytes: settings.MaxHeaderSize + readerSize, // never reached: the exact limit is the connection's
		ErrorLog:       slog.NewLogLogger(env.Log.Handler(), slog.LevelError),
		ConnState:      func(nc net.Conn, state http.ConnState) { connOf(nc).onState(state) },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(nc))
		},
		DisableGeneralOptionsHandler: true, // it would bypass Handler
		Protocols:                    new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	return s
}

// serve accepts until the drain begins, and returns when no connection is left or all have been cut.
func (s *server) serve(listeners []*listener) error {
	defer func() { _ = s.http.Close() }()
	failed := make(chan error, len(listeners))
	defer close(s.ended)
	go func() { _ = s.http.Serve(&arrivalListener{arrivals: s.arrivals, ended: s.ended}) }()
	if s.lot != nil {
		defer s.lot.park.Close()
	}
	for _, ln := range listeners {
		s.open.Add(1)
		go s.accept(ln, failed)
	}
	select {
	case err := <-failed:
		s.cutAll()
		return err
	case <-s.ctx.Done():
	}
	s.drain()
	return nil
}

// accept serves one listener until it ends, as drains make it, or breaks.
func (s *server) accept(ln *listener, failed chan<- error) {
	defer s.open.Done()
	err := s.http.Serve(ln)
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return
	}
	s.env.Log.Error("http: accept", "address", ln.Addr(), "error", err)
	failed <- err
}

// drain waits until no connection is left, or cuts what is left when the time has come.
func (s *server) drain() {
	stopping := s.env.Stopping()
	select {
	case <-stopping:
		stopping = nil
		s.stop()
	default:
		go s.move()
	}
	empty := make(chan struct{})
	go func() {
		s.open.Wait()
		close(empty)
	}()
	for {
		select {
		case <-empty:
			return
		case <-stopping:
			stopping = nil
			s.stop()
		case <-s.env.Cut():
			s.cutAll()
			return
		}
	}
}

// move has everything moved that can be, and again when others take than before.
func (s *server) move() {
	for s.moving() {
		others := s.env.Handover().Changed()
		s.moveAll()
		select {
		case <-others:
		case <-s.ended:
			return
		}
	}
}

// share gives some connections to others, those first that wait for a request.
func (s *server) share(part func(n int) int) {
	if s.lot == nil || s.draining() {
		return
	}
	s.lot.giveAll(s.lot.park.Take(part(s.lot.park.Len())))
	all := s.all()
	n := part(len(all))
	for _, c := range slices.Concat(s.idle(), all) {
		if n > 0 && c.sendOff() {
			n--
		}
	}
}

// moveAll offers what waits to the other workers. It takes its time: a connection that nobody has offered yet is
// served.
func (s *server) moveAll() {
	for chunk := range slices.Chunk(s.all(), moveChunk) {
		for _, c := range chunk {
			c.poke()
		}
		runtime.Gosched() // they offer themselves
		if s.lot != nil {
			s.lot.awaitRoom()
		}
	}
	if s.lot != nil {
		s.lot.moveAll()
	}
}

// stop: nobody serves after us, so nothing moves any more, and who is idle is not kept for long.
func (s *server) stop() {
	s.stopping.Store(true)
	s.pokeAll()
	if s.lot != nil {
		s.lot.stop()
	}
}

// cutAll closes every connection and counts it.
func (s *server) cutAll() {
	var requests, connections int64
	for _, c := range s.all() {
		r, connection := c.cut()
		requests += r
		if connection {
			connections++
		}
	}
	if s.lot != nil {
		connections += s.lot.cut()
	}
	s.env.Counters.CutRequests.Add(requests)
	s.env.Counters.CutConns.Add(connections)
	if connections == 0 {
		return
	}
	s.env.Log.Warn("http: cut", "requests", requests, "connections", connections)
}

// waitLimit is how long a connection may wait for a request.
func (s *server) waitLimit() time.Duration {
	if s.stopping.Load() {
		return min(stopWait, s.IdleTimeout)
	}
	return s.IdleTimeout
}

// draining is asked for every request: it must be true from the moment that accepting stops.
func (s *server) draining() bool { return s.ctx.Err() != nil }

// moving reports whether waiting connections are to be taken away.
func (s *server) moving() bool { return s.mover != nil && s.draining() && !s.stopping.Load() }

// countIdleClose is told of a connection that is closed because no request came. At a stop, and when there is no room,
// that is earlier than its client could expect. c is nil if net/http has never seen it.
func (s *server) countIdleClose(c *conn) {
	switch {
	case s.stopping.Load():
		s.env.Counters.CutConns.Add(1)
	case c != nil && c.isUnwanted():
		s.env.Counters.Shed.Add(1)
	}
}

func (s *server) pokeAll() {
	for _, c := range s.all() {
		c.poke()
	}
}

func (s *server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

func (s *server) remember(c *conn) {
	s.open.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.mu.Lock()
	c.wanted()
	c.mu.Unlock()
	s.open.Done()
}
