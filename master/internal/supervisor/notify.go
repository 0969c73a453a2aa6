package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// notifyEnv names systemd's socket. It stays in the supervisor's environment, and reaches no other process.
const notifyEnv = "NOTIFY_SOCKET"

// maxNotes is how many messages may wait for a systemd that does not read. Who is that far behind gets no more.
const maxNotes = 256

// notifier sends to systemd, in order. The supervisor never waits for it: systemd may be stopped, and its socket full. Its nil
// value is for a program that runs without systemd.
type notifier struct {
	notes    chan note
	log      *slog.Logger
	pending  atomic.Int32
	dropping bool // of the supervisor's goroutine: the last message was dropped
}

// note is a message, of one assignment a line.
type note struct {
	text string
	fd   int // sent along, and closed; -1: none
	sent chan<- struct{}

	barrier bool // fd is the end of a pipe whose other end tells when systemd has closed it
}

// barrierFailed is what comes out of a barrier's pipe before its end if something before it was not sent.
const barrierFailed = "x"

// newNotifier returns nil where nobody wants to be told.
func newNotifier(log *slog.Logger) *notifier {
	if os.Getenv(notifyEnv) == "" {
		return nil
	}
	n := &notifier{notes: make(chan note, maxNotes), log: log}
	go n.run()
	return n
}

func (n *notifier) run() {
	failed := false // the last one
	lost := false   // something since the last barrier
	for m := range n.notes {
		if m.barrier && lost {
			_, _ = unix.Write(m.fd, []byte(barrierFailed))
		}
		err := m.send()
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

// send may block. Its end is not the end of what it says: systemd reads later.
func (m note) send() error {
	if m.fd >= 0 {
		defer func() { _ = unix.Close(m.fd) }()
		err := sendWithFD(os.Getenv(notifyEnv), m.text, m.fd)
		if err != nil && m.barrier {
			_, _ = unix.Write(m.fd, []byte(barrierFailed))
		}
		return err
	}
	if m.text == "" {
		return nil
	}
	_, err := daemon.SdNotify(false, m.text)
	return err
}

// sendWithFD is daemon.SdNotify with a descriptor, which that does not have.
func sendWithFD(address, text string, fd int) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("notify: socket: %w", err)
	}
	defer func() { _ = unix.Close(s) }()
	for {
		err = unix.Sendmsg(s, []byte(text), unix.UnixRights(fd), &unix.SockaddrUnix{Name: address}, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("notify: sendmsg: %w", err)
	}
	return nil
}

// tell sends one message; lines are its assignments. It reports whether the message is on its way.
func (n *notifier) tell(lines ...string) bool {
	if n == nil {
		return false
	}
	text := ""
	for _, l := range lines {
		text += l + "\n"
	}
	return n.post(note{text: text, fd: -1})
}

// give sends a duplicate of fd.
func (n *notifier) give(fd int, text string) error {
	dup, err := rawfd.Dup(fd)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if !n.post(note{text: text, fd: dup}) {
		_ = unix.Close(dup)
		return errNotSent
	}
	return nil
}

var errNotSent = errors.New("notify: systemd does not read")

// barrier calls done, on a goroutine of its own, when systemd has obeyed everything that was told before (sd_notify_barrier(3)),
// or with false if some of it was not sent. While systemd does not read it is not called.
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

// idle reports whether everything has been sent. Who executes another program loses what has not.
func (n *notifier) idle() bool { return n == nil || n.pending.Load() == 0 }

// flush waits until everything has been sent, for a while.
func (n *notifier) flush(limit time.Duration) {
	if n == nil {
		return
	}
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
