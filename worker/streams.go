package worker

import (
	"context"
	"errors"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
	"baton/worker/rawfd"
)

// stopWait is how long an idle connection is kept when the whole program stops.
const stopWait = time.Second

// resourcePause is how long a process that is out of descriptors or memory waits before it takes another connection.
const resourcePause = 50 * time.Millisecond

// streams serves connections: what TCP and TLS have in common.
type streams struct {
	ctx     context.Context // ends when the drain begins
	env     *Env
	process Process
	origins []*origin

	failed chan error

	open  sync.WaitGroup // connections, and listeners that accept
	mu    sync.Mutex
	conns map[*Conn]struct{}
}

// origin is the socket that a connection came by.
type origin struct {
	key   handover.Key
	ln    net.Listener
	moves bool                    // its connections may move to another process
	wrap  func(net.Conn) net.Conn // or nil
}

func newStreams(ctx context.Context, env *Env, p Process) *streams {
	return &streams{
		ctx: ctx, env: env, process: p, failed: make(chan error, 1), conns: map[*Conn]struct{}{},
	}
}

// add makes the connections of a socket ours, those as well that come from other workers.
func (s *streams) add(sock Socket, wrap func(net.Conn) net.Conn) error {
	ln, err := s.env.Listener(sock.Name)
	if err != nil {
		return err
	}
	from := &origin{key: sock.Key, ln: ln, wrap: wrap}
	if sock.Handover && wrap == nil {
		from.moves = true
		s.env.Handover().Register(from.key, func(c handover.Conn) {
			s.open.Add(1)
			s.take(c, from)
		})
	}
	s.origins = append(s.origins, from)
	return nil
}

// serve accepts until the drain begins, and returns when no connection is left or all have been cut.
func (s *streams) serve() error {
	s.env.OnShare(s.share)
	s.env.Ready()
	for _, from := range s.origins {
		s.open.Add(1)
		go s.accept(from)
	}
	select {
	case err := <-s.failed:
		s.cut()
		return err
	case <-s.ctx.Done():
	}
	s.drain()
	return nil
}

// accept serves one listener until it ends, as drains make it, or breaks.
func (s *streams) accept(from *origin) {
	defer s.open.Done()
	for {
		nc, err := from.ln.Accept()
		switch {
		case err == nil:
			s.start(nc, from, false)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			select {
			case s.failed <- err:
			default:
			}
			return
		}
	}
}

// take goes on with a connection that another worker has given. It is counted in open already.
func (s *streams) take(c handover.Conn, from *origin) {
	nc, err := s.env.Open(c)
	if rawfd.Exhausted(err) {
		time.AfterFunc(resourcePause, func() { s.take(c, from) })
		return
	}
	_ = unix.Close(c.FD)
	if err == nil {
		s.start(nc, from, true)
	} else {
		s.env.Counters.CutConns.Add(1)
		s.env.Log.Error("worker: a connection that has moved was lost", "error", err)
	}
	s.open.Done()
}

// start has the Process speak on a connection. moved says that it has done so before, in another worker.
func (s *streams) start(nc net.Conn, from *origin, moved bool) {
	c := &Conn{Conn: nc, socket: nc, s: s, from: from, moved: moved}
	if from.wrap != nil {
		c.Conn = from.wrap(nc)
	}
	s.open.Add(1)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	go s.run(c)
}

func (s *streams) run(c *Conn) {
	defer s.forget(c)
	defer c.finish()
	defer func() {
		if r := recover(); r != nil {
			s.env.Log.Error("worker: panic", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	if err := c.handshake(); err == nil {
		s.process.ServeConn(s.ctx, c)
	}
}

func (s *streams) forget(c *Conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.open.Done()
}

func (s *streams) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// drain waits until no connection is left, or for the deadline.
func (s *streams) drain() {
	empty := make(chan struct{})
	go func() {
		s.open.Wait()
		close(empty)
	}()
	stopping := s.env.Stopping()
	for {
		others := s.env.Handover().Changed()
		s.pokeAll()
		select {
		case <-empty:
			return
		case <-others:
		case <-stopping:
			stopping = nil
		case <-s.env.Cut():
			s.cut()
			return
		}
	}
}

// pokeAll has every connection that is idle look at what is to become of it.
func (s *streams) pokeAll() {
	for _, c := range s.all() {
		c.poke()
	}
}

// cut closes every connection, and counts it.
func (s *streams) cut() {
	for _, c := range s.all() {
		c.cut()
	}
}

// share gives some connections to others.
func (s *streams) share(part func(n int) int) {
	all := s.all()
	n := part(len(all))
	for _, c := range all {
		if n > 0 && c.sendOff() {
			n--
		}
	}
}

func (s *streams) draining() bool { return s.ctx.Err() != nil }

func (s *streams) stopping() bool {
	select {
	case <-s.env.Stopping():
		return s.draining()
	default:
		return false
	}
}
