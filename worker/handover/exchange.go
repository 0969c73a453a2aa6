package handover

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/sock"
)

// A Conn is a connection that was taken. Its descriptor is non-blocking, and the taker's to close.
type Conn struct {
	FD   int
	Key  string        // of the listener that it came by
	Idle time.Duration // that it may still be idle
}

// Open makes a connection of a duplicate of c's descriptor, which stays the caller's to close: os.NewFile would take it.
func (c Conn) Open() (net.Conn, error) {
	d, err := unix.FcntlInt(uintptr(c.FD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if domain, err := unix.GetsockoptInt(d, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain != unix.AF_UNIX {
		return sock.New(d)
	}
	f := os.NewFile(uintptr(d), "conn")
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// An Offer is a connection to be given away. FD is the giver's: it must stay open, and must not be read, until Done is
// called.
type Offer struct {
	Conn

	// Done is called once, with whether somebody has taken the connection. If so, the giver is to close its descriptor
	// without another word (no shutdown). If not, the connection is the giver's as before.
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

// An Exchange is a worker's hold on the hand-over queue.
type Exchange struct {
	Counts Counts

	// Room, if not nil, says how many connections may be taken. It is set before Start.
	Room func() int

	log  *slog.Logger
	give *net.UnixConn
	take *net.UnixConn

	mu      sync.Mutex
	sinks   map[string]func(Conn)
	offers  []Offer
	sending bool

	taking  bool
	stopped chan struct{} // closed when the taking has ended
}

// New makes an Exchange of the two ends of the queue, raw descriptors which it owns from then on, also when it fails.
func New(give, take int, log *slog.Logger) (*Exchange, error) {
	g, gerr := unixConn(give)
	t, terr := unixConn(take)
	if gerr != nil || terr != nil {
		return nil, fmt.Errorf("handover: queue: %w", firstError(gerr, terr))
	}
	return &Exchange{log: log, give: g, take: t, sinks: map[string]func(Conn){}, stopped: make(chan struct{})}, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func unixConn(fd int) (*net.UnixConn, error) {
	f := os.NewFile(uintptr(fd), "handover")
	if f == nil {
		return nil, unix.EBADF
	}
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, unix.ENOTSOCK
	}
	return u, nil
}

// Register makes sink the taker of the connections of a listener. It is called before Start. What nobody has
// registered for stays with its sender.
//
// Threading: sink is called on the Exchange's goroutine, one connection at a time. It must not block.
func (x *Exchange) Register(key string, sink func(Conn)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sinks[key] = sink
}

// Start begins to take what others give. It is called at GO, once at most.
func (x *Exchange) Start() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.taking || len(x.sinks) == 0 {
		return
	}
	x.taking = true
	go x.takeAll()
}

// Stop ends the taking. When it returns, no sink will be called any more.
func (x *Exchange) Stop() {
	x.mu.Lock()
	taking := x.taking
	x.mu.Unlock()
	if taking {
		_ = x.take.SetReadDeadline(time.Unix(1, 0))
		<-x.stopped
	}
}
