package systemd

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// maxNotes is how many messages may wait for a systemd that does not read. Beyond that they are dropped.
const maxNotes = 256

// notifier sends to systemd, in order, from a goroutine of its own. Its zero value sends nothing.
type notifier struct {
	log      *slog.Logger
	address  string
	notes    chan note
	pending  atomic.Int32
	dropping bool // the last message was dropped
}

// note is a message, of one assignment a line.
type note struct {
	text    string
	fd      int // sent along, and closed; -1: none
	sent    chan<- struct{}
	barrier bool // fd is the end of a pipe whose other end tells when systemd has closed it
}

// barrierFailed is what comes out of a barrier's pipe before its end if something before it was not sent.
const barrierFailed = "x"

func (n *notifier) start(address string) {
	n.address, n.notes = address, make(chan note, maxNotes)
	go n.run()
}

func (n *notifier) run() {
	failed := false // the last one
	lost := false   // something since the last barrier
	for m := range n.notes {
		if m.barrier && lost {
			_, _ = unix.Write(m.fd, []byte(barrierFailed))
		}
		err := n.send(m)
		if err != nil && !failed {
			n.log.Warn("supervisor: systemd was not told", "error", err)
		}
		failed = err != nil
		lost = failed || lost && !m.barrier
		n.pending.Add(-1)
		if m.sent != nil {
			close(m.sent)
		}
	}
}

// send may block. systemd reads later. It is daemon.SdNotify with a descriptor, which that does not have.
func (n *notifier) send(m note) error {
	if m.fd >= 0 {
		defer func() { _ = unix.Close(m.fd) }()
	}
	if m.text == "" {
		return nil
	}
	err := n.sendmsg(m)
	if err != nil && m.barrier {
		_, _ = unix.Write(m.fd, []byte(barrierFailed))
	}
	return err
}

func (n *notifier) sendmsg(m note) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify: socket: %w", err)
	}
	defer func() { _ = unix.Close(s) }()
	var rights []byte
	if m.fd >= 0 {
		rights = unix.UnixRights(m.fd)
	}
	for {
		err = unix.Sendmsg(s, []byte(m.text), rights, &unix.SockaddrUnix{Name: n.address}, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("notify: sendmsg: %w", err)
	}
	return nil
}

// tell sends one message; lines are its assignments. It reports whether the message will be sent.
func (n *notifier) tell(lines ...string) bool {
	return n.post(note{text: strings.Join(lines, "\n") + "\n", fd: -1})
}

var errNotSent = errors.New("notify: systemd does not read")

// give sends a duplicate of fd.
func (n *notifier) give(fd int, lines ...string) error {
	dup, err := rawfd.Dup(fd)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if !n.post(note{text: strings.Join(lines, "\n") + "\n", fd: dup}) {
		_ = unix.Close(dup)
		return errNotSent
	}
	return nil
}

// barrier calls done, on a goroutine of its own, when systemd has obeyed everything that was told before
// (sd_notify_barrier(3)), or with false if some of it was not sent. While systemd does not read it is not called.
func (n *notifier) barrier(done func(obeyed bool)) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("notify: barrier: %w", err)
	}
	if !n.post(note{text: "BARRIER=1\n", fd: pipe[1], barrier: true}) {
		_, _ = unix.Close(pipe[0]), unix.Close(pipe[1])
		return errNotSent
	}
	go func() {
		defer func() { _ = unix.Close(pipe[0]) }()
		got, err := unix.Read(pipe[0], make([]byte, 1))
		for err == unix.EINTR {
			got, err = unix.Read(pipe[0], make([]byte, 1))
		}
		done(got == 0 && err == nil)
	}()
	return nil
}

func (n *notifier) post(m note) bool {
	if n.notes == nil {
		return false
	}
	n.pending.Add(1)
	select {
	case n.notes <- m:
		n.dropping = false
	default:
		n.pending.Add(-1)
		if !n.dropping {
			n.log.Warn("supervisor: systemd does not read, messages are dropped", "message", m.text)
		}
		n.dropping = true
	}
	return !n.dropping
}

// Idle reports whether everything has been sent. What has not is lost when the process executes another program.
func (n *notifier) Idle() bool { return n.pending.Load() == 0 }

// Flush waits until everything has been sent, up to limit.
func (n *notifier) Flush(limit time.Duration) {
	sent := make(chan struct{})
	if !n.post(note{fd: -1, sent: sent}) {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-sent:
	case <-timer.C:
	}
}
