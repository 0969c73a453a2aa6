package supervisor

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// conn is a socket to a master, as seqpacket.Conn is one.
type conn interface {
	Post(m wire.Message, fds ...int) error
	Recv() (seqpacket.Packet, error)
	StopReading()
	ResumeReading()
	Flush()
	Idle() bool
	HungUp() bool
	PeerPID() (int, error)
	FD() (int, error)
	Close() error
}

// masterConn is the conversation with one master process.
type masterConn struct {
	conn
	pid   int
	pidfd int // the process, whatever becomes of its number; -1: none
	phase phase
	seen  int64 // reload requests that it serves, see seenAtHello

	staged  staged // before COMMIT
	paused  bool   // nobody reads what it says, see reexecution.pause
	serving bool   // its sockets listen and its workers have GO

	heard   time.Time // when it has said something last
	checked time.Time // when it was asked last whether it still runs

	reopens  int               // messages that it has not answered
	timeouts message.Preparing // of the config that it has loaded

	exitReason string // why it is about to exit, in its own words
	exitStatus string // if it was reaped before all that it said was read
}

// runs reports whether a master that has nothing to say still runs, as far as that is known: one that was silent for a
// limit is asked for its status, and has the same time to answer. until is when to look again.
func (c *masterConn) runs(now time.Time, limit time.Duration) (until time.Time, ok bool) {
	if until = c.heard.Add(limit); now.Before(until) {
		return until, true
	}
	if !c.checked.After(c.heard) {
		c.checked = now
		_ = c.Post(message.StatusRequest{})
	}
	until = c.checked.Add(limit)
	return until, now.Before(until)
}

// openPidfd is right about the process as long as that has not hung up.
func (c *masterConn) openPidfd(k kernel) {
	c.pidfd = k.open(c.pid)
	if c.HungUp() {
		c.closePidfd()
	}
}

func (c *masterConn) closePidfd() {
	if c.pidfd >= 0 {
		_ = unix.Close(c.pidfd)
	}
	c.pidfd = -1
}

func (c *masterConn) discardStaged() {
	c.staged.discard()
	c.staged = nil
}

// discardPut undoes what a successor has put before it heard, or died, of the end of its attempt.
func discardPut(p *seqpacket.Packet) {
	var m message.Put
	if p.Frame.T == m.Kind() && p.Frame.Into(&m) == nil {
		entry{FD: p.TakeFD(), Unlink: m.Unlink, Undo: m.Undo}.discard()
	}
}

// packetEvent is a message of a master, or of one that registers, or why there is none.
type packetEvent struct {
	from   *masterConn // nil: the registration socket
	packet seqpacket.Packet
	err    error
}

// read turns what comes on c into events, in order, until the conversation ends, or nobody reads it for a while (see
// reexecution.pause). from is nil for the registration socket.
func read(c conn, from *masterConn, events chan<- packetEvent) {
	for {
		p, err := c.Recv()
		events <- packetEvent{from, p, err}
		if err != nil && !errors.Is(err, seqpacket.ErrCut) {
			return
		}
	}
}

// isPause reports whether a reader has stopped for a pause, and not at end-of-file.
func isPause(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// registration is the socket on which masters say hello. Every master gives its end to its successor.
type registration struct {
	conn    conn
	masters int // the masters' end, raw
	state   registrationState
}

type registrationState uint8

const (
	registrationOpen   registrationState = iota
	registrationPaused                   // nobody reads it, see reexecution.pause
	registrationBroken                   // and nobody will
)

func (r *registration) open() error {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("registration socket: %w", err)
	}
	r.masters = theirs
	return r.use(ours)
}

// use takes our end.
func (r *registration) use(fd int) error {
	c, err := seqpacket.New(fd)
	if err != nil {
		return fmt.Errorf("registration socket: %w", err)
	}
	r.conn = c
	return nil
}
