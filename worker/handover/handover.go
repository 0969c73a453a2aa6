package handover

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// A Key says which listener a connection came by.
type Key = wire.ListenerKey

// A Conn is a connection that was taken. Its descriptor is non-blocking, and the taker's to close or to Open.
type Conn struct {
	FD   int
	Key  Key           // of the listener that it came by, or that takes its connections
	Idle time.Duration // that it may still be idle

	file *os.File // of FD, when Open had no room
}

// Open makes a net.Conn of c, and takes its descriptor, also when it fails. But after an error that is rawfd.Exhausted
// c is still open, and all that may be done with it is to call Open again: package net works on a duplicate.
func (c *Conn) Open() (net.Conn, error) {
	if c.file == nil {
		c.file = os.NewFile(uintptr(c.FD), "conn")
	}
	nc, err := net.FileConn(c.file)
	if !rawfd.Exhausted(err) {
		_ = c.file.Close()
	}
	return nc, err
}

// An Offer is a connection to be given away. FD is the giver's: it must stay open, and must not be read, until Done is
// called.
type Offer struct {
	Conn

	// Done is called once, within a few seconds, with whether somebody has taken the connection. If so, the giver is to
	// close its descriptor without another word (no shutdown). If not, the connection is the giver's as before.
	//
	// It is called on a goroutine of the Handover, and must not block.
	Done func(taken bool)
}

// Counts is what a Handover has done.
type Counts struct {
	Given   atomic.Int64 // and taken by somebody
	Kept    atomic.Int64 // offered, and not taken
	Taken   atomic.Int64 // from others
	Refused atomic.Int64 // received, and left to the sender
}

// A Handover gives the connections of a worker to others, and takes theirs.
type Handover struct {
	Counts Counts

	// Room, if not nil, says how many connections may be taken. It is set before Start.
	Room func() int

	log *slog.Logger

	mu       sync.Mutex
	handlers map[Key]func(Conn)
	inbox    *seqpacket.Conn // nil: nothing is taken
	address  int             // the other end of inbox, to be passed on; -1: nothing is taken
	phase    phase
	done     chan struct{} // closed when the taking has ended
	stopped  sync.Once

	sending
}

// phase is how far the taking has come.
type phase uint8

const (
	phaseNone   phase = iota // there is no inbox, yet
	phaseOpen                // there is one, which nobody reads
	phaseTaking              // it is read
	phaseEnded
)

// New makes a Handover that takes nothing, and gives to nobody.
func New(log *slog.Logger) *Handover {
	h := &Handover{log: log, handlers: map[Key]func(Conn){}, address: -1, done: make(chan struct{})}
	h.changed = make(chan struct{})
	h.ctx, h.withdraw = context.WithCancel(context.Background())
	return h
}

// Register has handler take the connections of a listener. It is called before Open.
//
// The handler is called on the Handover's goroutine, one connection at a time. It must not block.
func (h *Handover) Register(key Key, handler func(Conn)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handlers[key] = handler
}

// RegisterAlso has the handler of key, if there is one, take the connections of another key as well, as if they were
// its own.
func (h *Handover) RegisterAlso(other, key Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if handler := h.handlers[key]; handler != nil {
		h.handlers[other] = func(c Conn) {
			c.Key = key
			handler(c)
		}
	}
}

// Registered reports whether connections of a listener are taken here.
func (h *Handover) Registered(key Key) bool { return h.handler(key) != nil }

func (h *Handover) handler(key Key) func(Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.handlers[key]
}

// Open makes the inbox, unless nothing is registered, in which case nothing will be taken.
func (h *Handover) Open() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.handlers) == 0 || h.phase != phaseNone {
		return nil
	}
	read, write, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	if h.inbox, err = seqpacket.New(read); err != nil {
		_ = unix.Close(write)
		return fmt.Errorf("handover: %w", err)
	}
	// A few offers fill the inbox. More of them would only be more descriptors in flight, of which a user may have as
	// many as files.
	_ = unix.SetsockoptInt(write, unix.SOL_SOCKET, unix.SO_SNDBUF, 0)
	h.address, h.phase = write, phaseOpen
	return nil
}

// Takes says what is taken, for [Handover.SetTakers] of others. The descriptor to go with it stays h's; there is none
// if nothing is taken.
func (h *Handover) Takes() (wire.Takes, []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.address < 0 {
		return wire.Takes{}, nil
	}
	return wire.Takes{Keys: wire.NewKeySet(maps.Keys(h.handlers))}, []int{h.address}
}

// Start begins to take what others give. It is called at GO, once at most.
func (h *Handover) Start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.phase == phaseOpen {
		h.phase = phaseTaking
		go h.takeAll()
	}
}

// Stop ends the taking. When it returns, no handler will be called any more, and what was not taken is its sender's. It
// may be called more than once, also at the same time.
func (h *Handover) Stop() { h.stopped.Do(h.stop) }

func (h *Handover) stop() {
	h.mu.Lock()
	was := h.phase
	h.phase = phaseEnded
	h.mu.Unlock()
	if was == phaseTaking {
		h.inbox.StopReading()
		<-h.done
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.inbox != nil {
		_ = h.inbox.Close()
		h.inbox = nil
	}
	if h.address >= 0 {
		_ = unix.Close(h.address)
		h.address = -1
	}
}
