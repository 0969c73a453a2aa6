package handover

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
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

// A Conn is a connection that was taken. Its descriptor is non-blocking, and the taker's to close.
type Conn struct {
	FD   int
	Key  Key           // of the listener that it came by, or that takes its connections
	Idle time.Duration // that it may still be idle
}

// Open makes a connection of a duplicate of c's descriptor, which stays the caller's to close: os.NewFile would take
// it.
func (c Conn) Open() (net.Conn, error) {
	d, err := rawfd.Dup(c.FD)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(d), "conn")
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// An Offer is a connection to be given away. FD is the giver's: it must stay open, and must not be read, until Done is
// called.
type Offer struct {
	Conn

	// Done is called once, within a few seconds, with whether somebody has taken the connection. If so, the giver is to
	// close its descriptor without another word (no shutdown). If not, the connection is the giver's as before.
	//
	// Threading: called on a goroutine of the Exchange. It must not block.
	Done func(taken bool)
}

// Counts is what an Exchange has done.
type Counts struct {
	Given   atomic.Int64 // and taken by somebody
	Kept    atomic.Int64 // offered, and not taken
	Taken   atomic.Int64 // from others
	Refused atomic.Int64 // received, and left to the sender
}

// An Handover gives the connections of a worker to others, and takes theirs.
type Handover struct {
	Counts Counts

	// Room, if not nil, says how many connections may be taken. It is set before Start.
	Room func() int

	log *slog.Logger

	mu      sync.Mutex
	sinks   map[Key]func(Conn)
	inbox   *seqpacket.Conn // nil: nothing is taken
	address int             // the other end of inbox, to be passed on; -1: nothing is taken
	phase   phase
	done    chan struct{} // closed when the taking has ended

	giving
}

// phase is how far the taking has come.
type phase uint8

const (
	phaseNone   phase = iota // there is no inbox, yet
	phaseOpen                // there is one, which nobody reads
	phaseTaking              // it is read
	phaseEnded
)

// New makes an Exchange that takes nothing, and gives to nobody.
func New(log *slog.Logger) *Handover {
	return &Handover{
		log: log, sinks: map[Key]func(Conn){}, address: -1, done: make(chan struct{}),
		giving: giving{changed: make(chan struct{}), waiting: map[*os.File]struct{}{}},
	}
}

// Register makes sink the taker of the connections of a listener. It is called before Open.
//
// Threading: sink is called on the Exchange's goroutine, one connection at a time. It must not block.
func (x *Handover) Register(key Key, sink func(Conn)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sinks[key] = sink
}

// RegisterAlso makes the sink of key, if it has one, take the connections of another key as well, as if they were its
// own.
func (x *Handover) RegisterAlso(other, key Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if sink := x.sinks[key]; sink != nil {
		x.sinks[other] = func(c Conn) {
			c.Key = key
			sink(c)
		}
	}
}

// Registered reports whether somebody takes the connections of a listener here.
func (x *Handover) Registered(key Key) bool { return x.sink(key) != nil }

func (x *Handover) sink(key Key) func(Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sinks[key]
}

// Open makes the inbox, unless nothing is registered, in which case nothing will be taken.
func (x *Handover) Open() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.sinks) == 0 || x.phase != phaseNone {
		return nil
	}
	read, write, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	if x.inbox, err = seqpacket.New(read); err != nil {
		_ = unix.Close(write)
		return fmt.Errorf("handover: %w", err)
	}
	x.address, x.phase = write, phaseOpen
	return nil
}

// Takes says what is taken, for [Handover.SetTakers] of others. The descriptor to go with it stays x's; there is none if
// nothing is taken.
func (x *Handover) Takes() (wire.Takes, []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.address < 0 {
		return wire.Takes{}, nil
	}
	var t wire.Takes
	for key := range x.sinks {
		t.Keys = append(t.Keys, key)
	}
	slices.SortFunc(t.Keys, func(a, b Key) int { // all workers say the same, and it is sent once
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Process, b.Process), cmp.Compare(a.Name, b.Name))
	})
	return t, []int{x.address}
}

// Start begins to take what others give. It is called at GO, once at most.
func (x *Handover) Start() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.phase == phaseOpen {
		x.phase = phaseTaking
		go x.takeAll()
	}
}

// Stop ends the taking. When it returns, no sink will be called any more, and what was not taken is its sender's.
func (x *Handover) Stop() {
	x.mu.Lock()
	was := x.phase
	x.phase = phaseEnded
	x.mu.Unlock()
	if was == phaseTaking {
		x.inbox.StopReading()
		<-x.done
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inbox != nil {
		_ = x.inbox.Close()
		x.inbox = nil
	}
	if x.address >= 0 {
		_ = unix.Close(x.address)
		x.address = -1
	}
}
