package worker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"baton/worker/conns"
	"baton/worker/handover"
	"baton/worker/sock"
	"baton/worker/wire"
)

// ListenerKey says, in every generation, which listener a connection came by.
type ListenerKey = handover.Key

// A Socket describes one of the sockets that the worker was given.
type Socket struct {
	Key       ListenerKey
	Name      string // the user's
	Address   string // as the user wrote it
	Transport string // tcp, tls or udp
	Process   string // the protocol that is to be spoken on it
	Handover  bool   // whether its idle connections may move to another process
}

// Env is what a worker gets from its master: sockets, readiness, the drain. Its methods may be called from any
// goroutine.
type Env struct {
	// Log is where the worker's log lines go. Writing to it never blocks.
	Log *slog.Logger

	// Counters are the process's.
	Counters *Counters

	*world
	ready     chan struct{} // closed by Ready
	readyOnce sync.Once
}

// world is what all views of an Env share, see [Group].
type world struct {
	generation, slot, workers int
	version                   string
	payload                   []byte
	stopTimeout               int64       // nanoseconds, for a worker whose supervisor and master died
	paths                     []wire.Path // that it removes then
	pidFile                   wire.Path   // so is this one
	sockets                   []socket
	handover                  *handover.Handover
	balance                   *sock.Balance // with the other workers; nil: there is none
	warnWakesAll              sync.Once
	tickets                   tickets
	limiter                   *connLimiter
	heartbeat                 heartbeat
	instance                  atomic.Pointer[func() wire.Instance]

	granted chan struct{} // closed by GO

	ctx    context.Context // ends when the drain begins
	cancel context.CancelFunc

	mu       sync.Mutex
	sharers  []func(part func(n int) int) // see OnShare
	stopping chan struct{}                // closed when the whole program ends
	deadline time.Time
	moved    chan struct{} // closed when deadline has moved closer, and replaced
	listened chan struct{} // closed when a socket listens that did not, and replaced
	cut      chan struct{} // closed when the deadline has come
	cutTimer *time.Timer
}

func newEnv(s wire.Setup, log *slog.Logger) *Env {
	w := &world{
		generation: s.Generation, slot: s.Slot, workers: s.Workers, version: s.Version,
		stopTimeout: s.StopTimeout, paths: s.Paths,
		heartbeat: heartbeat{fd: -1},
		granted:   make(chan struct{}), cut: make(chan struct{}), stopping: make(chan struct{}),
		moved: make(chan struct{}), listened: make(chan struct{}),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	env := &Env{Log: log, Counters: &Counters{}, world: w, ready: make(chan struct{})}
	env.Counters.Requests.limit, env.Counters.Requests.reached = s.MaxRequests, make(chan struct{})
	w.limiter = &connLimiter{env: env, limit: connLimit(s.MaxConnections)}
	w.tickets.set(s.Tickets)
	env.setHandover()
	return env
}

// view is the same Env with a Ready of its own.
func (e *Env) view() *Env {
	return &Env{Log: e.Log, Counters: e.Counters, world: e.world, ready: make(chan struct{})}
}

// Generation is the generation that the worker belongs to; they count from 1.
func (e *Env) Generation() int { return e.generation }

// Slot is the worker's place, 0 … workers-1. A replacement takes the slot of the dead.
func (e *Env) Slot() int { return e.slot }

// Runs has f tell what instance of a program the worker runs, for the status. It is called before Ready.
//
// Threading: f is called on the goroutine that reads what the master says, and must not block.
func (e *Env) Runs(f func() wire.Instance) { e.instance.Store(&f) }

// Workers is how many workers were wanted when this one was started.
func (e *Env) Workers() int { return e.workers }

// Version is the program's, as the master was told.
func (e *Env) Version() string { return e.version }

// Payload is what the configuration has for workers, see master.Config.
func (e *Env) Payload() []byte { return e.payload }

// Sockets lists what the worker was given, in the order of the configuration.
func (e *Env) Sockets() []Socket {
	all := make([]Socket, len(e.sockets))
	for i := range e.sockets {
		all[i] = e.sockets[i].describe()
	}
	return all
}

// Handover is the way for idle connections to and from other workers. It takes from GO until the drain begins, for
// those listeners that something is registered for before Ready; the connections of the others stay where they are.
func (e *Env) Handover() *handover.Handover { return e.handover }

// Listener returns the listener with that name, or with that address as it is written in the configuration.
//
// Its Accept blocks until GO, so that nothing is accepted by a generation that fails in the end. When the drain
// begins Accept returns [net.ErrClosed], for an address that nobody serves from then on not before its queue is empty.
// Closing it closes this process's hold on the socket, not the socket.
//
// What Accept returns is a *net.TCPConn or a *net.UnixConn, embedded in a type that counts it in Counters.Conns until
// it is closed.
//
// Accept also blocks while the process is out of descriptors, or has as many connections as it may: what
// comes meanwhile waits in the kernel. With several listeners there may be one more for each. See OnFull.
func (e *Env) Listener(name string) (net.Listener, error) {
	s, err := e.find(name, false)
	if err != nil {
		return nil, err
	}
	return e.listenerOf(s), nil
}

// PacketConn returns the UDP socket with that name, or with that address as it is written in the configuration. It is
// shared with the workers of this generation, and with the next one.
//
// Its ReadFrom blocks until GO. When the drain begins it returns [net.ErrClosed], for an address that nobody serves
// from then on not before its queue is empty. WriteTo works until Close, so that what was read can be answered.
func (e *Env) PacketConn(name string) (net.PacketConn, error) {
	s, err := e.find(name, true)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.pc == nil {
		pc, err := newPacketConn(e, s.fd)
		if err != nil {
			return nil, fmt.Errorf("listener %s: %w", s.Name, err)
		}
		s.pc, s.fd = pc, -1
	}
	return s.pc, nil
}

// find looks for the socket of a name, then of an address: for TCP and UDP they may be the same.
func (e *Env) find(name string, packets bool) (*socket, error) {
	for _, by := range []func(*socket) string{(*socket).name, (*socket).address} {
		for i := range e.sockets {
			if s := &e.sockets[i]; by(s) == name && (s.Transport == "udp") == packets {
				return s, nil
			}
		}
	}
	if packets {
		return nil, fmt.Errorf("no udp listener named %q", name)
	}
	return nil, fmt.Errorf("no listener named %q", name)
}

// Ready says that the worker could take work: everything that can fail has been done. It does not block, and the
// first call counts. Until all workers of a generation are ready, the previous generation serves.
func (e *Env) Ready() { e.readyOnce.Do(func() { close(e.ready) }) }

// Granted is closed by GO: from then on the worker may take work. Listeners wait for it by themselves.
func (e *Env) Granted() <-chan struct{} { return e.granted }

// ConnConfig adds to what an engine of connections needs what it has of the worker.
func (e *Env) ConnConfig(c conns.Config) conns.Config {
	c.Handover, c.Counters, c.Log = e.handover, &e.Counters.Counters, e.Log
	c.Stop, c.Cut = e.stopping, e.cut
	return c
}
