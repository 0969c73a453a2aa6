package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Kind is a way to fail.
type Kind string

// The ways to fail.
const (
	Refused     Kind = "refused"      // nobody listens
	ResetBefore Kind = "reset-before" // reset before the request was sent
	ResetAfter  Kind = "reset-after"  // reset after the request was sent, before an answer
	EOF         Kind = "eof"          // closed without an answer, and nothing had announced it
	Short       Kind = "short"        // the answer ended before its end
	Wrong       Kind = "wrong"        // not the body that was expected, or no HTTP
	BadStatus   Kind = "status"       // 500 and above, or not the status that was expected
	Late        Kind = "late"         // more than a second to connect, and a lost SYN
	// silence: neither what was waited for nor an end of the connection within the timeout
	Hang       Kind = "hang"
	Unanswered Kind = "unanswered" // pipelined behind an answer that announced the end of the connection
	Goodbye    Kind = "goodbye"    // a WebSocket was closed by a server that said that it goes (1001, 1012)
	Other      Kind = "other"
)

// Kinds are all ways to fail, in the order in which they are reported.
func Kinds() []Kind {
	return []Kind{
		Refused, ResetBefore, ResetAfter, EOF, Short, Wrong, BadStatus, Late, Hang, Unanswered, Goodbye,
		Other,
	}
}

// failure is an error of a known kind.
type failure struct {
	kind Kind
	err  error
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %v", f.kind, f.err) }
func (f *failure) Unwrap() error { return f.err }

func failf(kind Kind, format string, args ...any) error {
	return &failure{kind, fmt.Errorf(format, args...)}
}

// phase is how far a request had come when an error met it.
type phase int

const (
	connecting phase = iota
	sending
	waiting // for the first byte of the answer
	reading
)

// classify gives an error of a connection its kind.
func classify(p phase, err error) error {
	if f := (*failure)(nil); err == nil || errors.As(err, &f) {
		return err
	}
	return &failure{kindOf(p, err), err}
}

func kindOf(p phase, err error) Kind {
	var ne net.Error
	reset := errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNABORTED)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) &&
		ne.Timeout():
		return Hang
	case p == connecting && (errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)):
		return Refused
	case reset && p <= sending:
		return ResetBefore
	case reset && p == waiting:
		return ResetAfter
	case p == waiting && errors.Is(err, io.EOF):
		return EOF
	case p == reading && (reset || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)):
		return Short
	default:
		return Other
	}
}
