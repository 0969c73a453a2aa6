package conns

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"baton/worker/handover"
)

// stopWait is how long an idle connection is kept when the whole program stops.
const stopWait = time.Second

// Limits are the time limits of connections. 0 is none, but for Message.
type Limits struct {
	Idle    time.Duration // between two messages, and before the first
	Message time.Duration // from a message's first byte to its end, or to the end of its header
	Body    time.Duration // between two reads of a body
	Send    time.Duration // in which the client takes nothing of what is written
}

// Config is what an Engine is for.
type Config struct {
	Limits   Limits
	Handover *handover.Handover
	Counters *Counters
	Log      *slog.Logger
	Stop     <-chan struct{} // closed when the whole program ends
	Cut      <-chan struct{} // closed when the drain deadline has come

	// FullRead is how much a Read asks for when the reader has nothing in its buffer; 0: its reader says [Conn.Idle]
	// only then.
	FullRead int

	// Pool: connections that come from other workers wait in a pool for their next message, and cost a map entry.
	Pool bool

	// Serve goes on with a connection that has come from another worker, or whose message has come. It must not block.
	Serve func(nc net.Conn, from *Listener)
}

// A Listener is a socket that connections come by.
type Listener struct {
	Key   handover.Key
	Moves bool        // its connections may move to another worker
	TLS   *tls.Config // nil: there is no TLS
}

// An Engine has the connections of a worker, from their accept to their close, wherever they came from: it bounds how
// long they wait, moves them to other workers, closes those that are idle when there is no room, and cuts them at the
// end.
type Engine struct {
	Config
	ctx       context.Context // ends when the drain begins
	listeners map[handover.Key]*Listener
	pool      *handover.IdlePool // nil: none is needed
	evicting  atomic.Int64       // connections that are about to close because there is no room

	open     sync.WaitGroup // connections, and listeners that accept
	mu       sync.Mutex
	conns    map[*Conn]struct{}
	offered  int        // connections that are between two workers
	answered *sync.Cond // there are fewer of them
}

// New makes an Engine of a worker whose drain begins when ctx ends.
func New(ctx context.Context, c Config) *Engine {
	e := &Engine{Config: c, ctx: ctx, listeners: map[handover.Key]*Listener{}, conns: map[*Conn]struct{}{}}
	e.answered = sync.NewCond(&e.mu)
	return e
}

// Listen makes the connections of a socket known, and if they move takes those of other workers. It is called before
// the worker is ready.
func (e *Engine) Listen(from *Listener) error {
	e.listeners[from.Key] = from
	if !from.Moves {
		return nil
	}
	if e.Pool && e.pool == nil {
		pool, err := handover.NewIdlePool(e.wakeParked, e.closeParked)
		if err != nil {
			return fmt.Errorf("connections cannot wait: %w", err)
		}
		e.pool = pool
	}
	e.Handover.Register(from.Key, e.take)
	return nil
}

// Add makes nc a connection of the Engine. proto may be nil.
func (e *Engine) Add(c *Conn, nc net.Conn, from *Listener, proto Protocol) error {
	sock, ok := nc.(Socket)
	if !ok {
		_ = nc.Close()
		return fmt.Errorf("a %T cannot be served", nc)
	}
	c.e, c.from, c.proto, c.sock, c.phase = e, from, proto, sock, fresh
	c.out.sock, c.clock.sock = sock, sock
	if from.TLS != nil {
		c.tls, c.phase = newSecured(sock, &c.out, from.TLS), handshaking
	} else {
		c.out.limit = e.Limits.Send
	}
	e.open.Add(1)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conns[c] = struct{}{}
	return nil
}

func (e *Engine) forget(c *Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	e.open.Done()
}

// Run accepts until the drain begins, and returns when no connection is left or all have been cut. Each of accept
// returns net.ErrClosed at the drain; if one fails before, so does Run.
func (e *Engine) Run(accept ...func() error) error {
	if e.pool != nil {
		defer e.pool.Close()
	}
	failed := make(chan error, len(accept))
	for _, f := range accept {
		e.open.Go(func() {
			if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
				failed <- err
			}
		})
	}
	select {
	case err := <-failed:
		e.cut()
		return err
	case <-e.ctx.Done():
	}
	e.drain()
	return nil
}

// drain waits until no connection is left, or cuts what is left when the time has come.
func (e *Engine) drain() {
	empty := make(chan struct{})
	go func() {
		e.open.Wait()
		close(empty)
	}()
	go e.move(empty)
	stopping := e.Stop
	for {
		select {
		case <-empty:
			return
		case <-stopping:
			stopping = nil
			e.stop()
		case <-e.Cut:
			e.cut()
			return
		}
	}
}

// stop: nobody serves after us, so nothing moves any more, and what is idle is not kept for long.
func (e *Engine) stop() {
	for _, c := range e.all() {
		c.wake()
	}
	if e.pool != nil {
		e.pool.Limit(stopWait)
	}
}

// cut closes every connection and counts it.
func (e *Engine) cut() {
	var requests, connections int64
	for _, c := range e.all() {
		r, connection := c.Abort()
		requests += r
		if connection {
			connections++
		}
	}
	connections += e.cutParked()
	e.Counters.CutRequests.Add(requests)
	e.Counters.CutConns.Add(connections)
	if connections > 0 {
		e.Log.Warn("conns: cut", "requests", requests, "connections", connections)
	}
}

// WaitLimit is how long a connection may wait for a message; 0: for ever.
func (e *Engine) WaitLimit() time.Duration {
	switch {
	case !e.Stopping():
		return e.Limits.Idle
	case e.Limits.Idle == 0:
		return stopWait
	}
	return min(stopWait, e.Limits.Idle)
}

// Draining reports whether the drain has begun: from the moment that accepting stops.
func (e *Engine) Draining() bool { return e.ctx.Err() != nil }

// Context ends when the drain begins.
func (e *Engine) Context() context.Context { return e.ctx }

// Stopping reports whether the whole program ends.
func (e *Engine) Stopping() bool {
	select {
	case <-e.Stop:
		return e.Draining()
	default:
		return false
	}
}

// moving reports whether connections that wait are to be given to others.
func (e *Engine) moving() bool { return e.Draining() && !e.Stopping() }

func (e *Engine) all() []*Conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*Conn, 0, len(e.conns))
	for c := range e.conns {
		all = append(all, c)
	}
	return all
}

// wake makes a connection that waits for a message decide anew, on its own goroutine.
func (c *Conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == handshaking:
		c.tls.below.await(c.handshakeLimit())
	case c.phase == detached && c.Stopped != nil && c.e.Stopping():
		go c.Stopped()
	case c.phase.waits():
		c.declined, c.retry = declinedNot, time.Time{}
		c.clock.expire()
	}
}
