package supervisor

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/seqpacket"
)

// session is the conversation with one master process.
type session struct {
	conn *seqpacket.Conn
	pid  int
	// pidfd is the process itself, which a number may not be any more; -1 where the kernel has no such thing.
	pidfd int
	phase phase
	seen  int64 // reload requests that it serves, see seenAtHello

	staged  staged // before COMMIT
	paused  bool   // nobody reads what it says, see pauseReaders
	serving bool   // its sockets listen and its workers have GO

	reopens  int               // that it was told and has not answered
	timeouts message.Preparing // of the config that it has loaded

	lastWord string // why it is about to exit, in its own words
	end      string // how it ended, if it was reaped before its last words were read
}

// hold keeps a handle on the process. The number is its own as long as it has not hung up.
func (s *session) hold() {
	fd, err := unix.PidfdOpen(s.pid, 0)
	if err != nil {
		return
	}
	if s.conn.HungUp() {
		_ = unix.Close(fd)
		return
	}
	s.pidfd = fd
}

// discard undoes what it has staged.
func (s *session) discard() {
	s.staged.discard()
	s.staged = nil
}

func (s *session) letGo() {
	if s.pidfd >= 0 {
		_ = unix.Close(s.pidfd)
	}
	s.pidfd = -1
}

// attempt is one reload, from the message to the master until it is committed or everything of it is gone.
type attempt struct {
	id        string
	seen      int64 // requests that it serves: all that came before its exec, and perhaps before its hello
	sponsor   *session
	successor *session // nil before its hello, and after its end
	reason    string   // why it failed, as the successor or the supervisor said; the first word counts
	fallback  string   // what the sponsor said of it
	phase     attemptPhase
	limit     time.Duration // that it has
	workers   []int         // PIDs that the successor has reported and that have not been reaped
}

// attemptPhase is how far an attempt has come.
type attemptPhase uint8

const (
	attemptAsked   attemptPhase = iota // the sponsor is to start the successor
	attemptStarted                     // it has said that it does
	attemptKilled                      // the successor is gone, or on its way
	attemptEnded                       // it is gone, and what it said last is still to be read
)

func (a *attempt) forget(pid int) {
	a.workers = slices.DeleteFunc(a.workers, func(p int) bool { return p == pid })
}

// undo takes back what a successor has put before it heard, or died, of the end of its attempt.
func (s *session) undo(p *seqpacket.Packet) {
	var m message.Put
	if p.Frame.T == m.Kind() && p.Frame.Into(&m) == nil {
		entry{fd: p.TakeFD(), unlink: m.Unlink, undo: m.Undo}.discard()
	}
}

func (a *attempt) blame(reason string) {
	if a.reason == "" {
		a.reason = reason
	}
}

// packetEvent is a message of a master, or of nobody yet where it comes from the door; packet is nil at end-of-file. It is
// the last one of its reader if there is no packet.
type packetEvent struct {
	from   *session
	packet *seqpacket.Packet
	cut    bool // a message was lost: see seqpacket.ErrCut
	paused bool // the reader has stopped for pauseReaders, and not at end-of-file
}

// read turns what a master says into events, in order, and ends with the conversation.
func (sv *supervisor) read(s *session) {
	for {
		p, err := s.conn.Recv()
		if errors.Is(err, seqpacket.ErrCut) {
			sv.packets <- packetEvent{from: s, cut: true}
			continue
		}
		if err != nil {
			sv.packets <- packetEvent{from: s, paused: errors.Is(err, os.ErrDeadlineExceeded)}
			return
		}
		sv.packets <- packetEvent{from: s, packet: &p}
	}
}

// readDoor turns hellos into events, from is nil.
func (sv *supervisor) readDoor() {
	for {
		p, err := sv.door.Recv()
		if errors.Is(err, seqpacket.ErrCut) {
			sv.packets <- packetEvent{cut: true}
			continue
		}
		if err != nil {
			sv.packets <- packetEvent{paused: errors.Is(err, os.ErrDeadlineExceeded)}
			return
		}
		sv.packets <- packetEvent{packet: &p}
	}
}
