// Package logsink writes log lines without ever making the writer wait: a terminal that is held by Ctrl-S or a pipe
// that nobody reads must not stop a drain. What does not fit is dropped, what the disk has no room for is lost, and
// both are counted, and said as soon as there is room.
package logsink

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/wire"
)

// backlog is how many lines wait for the reader at most.
const backlog = 1024

// A Sink is an io.Writer; each Write is one line. Its zero value is not usable.
type Sink struct {
	fd      atomic.Int64
	lines   chan []byte
	flush   chan chan struct{}
	dropped atomic.Int64 // nobody read them
	lost    atomic.Int64 // they could not be written
	why     atomic.Value // the error, of the last one
}

// New starts a Sink on a descriptor, for the life of the process.
func New(fd int) *Sink { return start(fd, func() {}) }

// NewForeground is New for a process that may be in a terminal's background and obeys SIGTTOU: the writing thread
// blocks the signal, else `stty tostop` would turn every line into one.
func NewForeground(fd int) *Sink {
	return start(fd, func() {
		runtime.LockOSThread()
		var set unix.Sigset_t
		set.Val[0] = 1 << (unix.SIGTTOU - 1)
		_ = unix.PthreadSigmask(unix.SIG_BLOCK, &set, nil)
	})
}

func start(fd int, prepare func()) *Sink {
	s := &Sink{lines: make(chan []byte, backlog), flush: make(chan chan struct{})}
	s.fd.Store(int64(fd))
	go func() {
		prepare()
		s.writeLines()
	}()
	return s
}

// Write takes a line and returns at once.
func (s *Sink) Write(p []byte) (int, error) {
	select {
	case s.lines <- append([]byte(nil), p...):
	default:
		s.dropped.Add(1)
	}
	return len(p), nil
}

// SetFD makes the sink write to another descriptor, which it takes. A standard one is never closed. Any other keeps its
// number and becomes a duplicate of fd: a line that is being written finds the old file or the new one there, and never
// a connection that got the number meanwhile.
//
// It is for one goroutine.
func (s *Sink) SetFD(fd int) {
	old := s.FD()
	if old <= 2 {
		s.fd.Store(int64(fd))
		return
	}
	if fd == old {
		return
	}
	_ = unix.Dup3(fd, old, unix.O_CLOEXEC)
	if fd > 2 {
		_ = unix.Close(fd)
	}
}

// FD is the descriptor that is written to.
func (s *Sink) FD() int { return int(s.fd.Load()) }

// Dropped is how many lines were never written because nobody read what was before them.
func (s *Sink) Dropped() int64 { return s.dropped.Load() }

// Missing is how many lines are not where they were to be written, and why, of the last one that could not be written.
func (s *Sink) Missing() (n int64, why string) {
	if err, ok := s.why.Load().(error); ok {
		why = err.Error()
	}
	return s.dropped.Load() + s.lost.Load(), why
}

// Flush waits until what was written is out, or for the given time.
func (s *Sink) Flush(limit time.Duration) {
	over := time.After(limit)
	done := make(chan struct{})
	select {
	case s.flush <- done:
	case <-over:
		return
	}
	select {
	case <-done:
	case <-over:
	}
}

func (s *Sink) writeLines() {
	var told int64
	var f failures
	for {
		select {
		case line := <-s.lines:
			f.out(s, line)
		case done := <-s.flush:
			for len(s.lines) > 0 {
				f.out(s, <-s.lines)
			}
			close(done)
		}
		if n := s.dropped.Load(); n != told && len(s.lines) == 0 {
			f.out(s, fmt.Appendf(nil, "baton: %d log lines dropped, nobody read them\n", n-told))
			told = n
		}
	}
}

// failures are the lines that could not be written and of which nothing was said so far.
type failures struct {
	n    int64
	torn bool // a part of the last one was written
}

// out writes a line, and before it what was lost.
func (f *failures) out(s *Sink, line []byte) {
	said := line
	if _, why := s.Missing(); f.n > 0 {
		said = fmt.Appendf(nil, "baton: %d log lines lost: %s\n%s", f.n, why, line)
	}
	if f.torn {
		said = append([]byte("\n"), said...)
	}
	part, err := s.write(said)
	if err == nil {
		*f = failures{}
		return
	}
	f.n, f.torn = f.n+1, f.torn && part == 0 || part > 0
	s.lost.Add(1)
	s.why.Store(err)
}

// write uses the raw call: an os.File would put a pipe into the poller, and into non-blocking mode for all processes
// that share it.
func (s *Sink) write(line []byte) (written int, err error) {
	for written < len(line) {
		n, err := unix.Write(s.FD(), line[written:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN: // somebody else made it non-blocking
			p := []unix.PollFd{{Fd: int32(s.FD()), Events: unix.POLLOUT}}
			_, _ = unix.Poll(p, -1)
			continue
		case err != nil:
			return written, err
		}
		written += n
	}
	return written, nil
}

// Logger makes a logger on w. In JSON durations are seconds.
func Logger(w io.Writer, style wire.LogStyle) *slog.Logger {
	o := slog.HandlerOptions{Level: style.Level}
	if style.Format != "json" {
		return slog.New(slog.NewTextHandler(w, &o))
	}
	o.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.Float64Value(a.Value.Duration().Seconds())
		}
		return a
	}
	return slog.New(slog.NewJSONHandler(w, &o))
}

// Open opens a log file for appending, as a raw descriptor.
func Open(path string) (int, error) {
	fd, _, err := Create(path)
	return fd, err
}

// Create is Open, and reports whether the file was not there before.
func Create(path string) (fd int, made bool, err error) {
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC
	if fd, err = unix.Open(path, flags|unix.O_EXCL, 0o644); err == nil {
		return fd, true, nil
	}
	fd, err = unix.Open(path, flags|unix.O_NONBLOCK, 0o644) // a named pipe that nobody reads would block
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		return -1, false, &os.PathError{Op: "open log", Path: path, Err: err}
	}
	return fd, false, nil
}
