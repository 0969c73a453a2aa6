package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"baton/cmd/baton/internal/config"
)

// Everything that is said to a person goes through this file:
//   - what went wrong goes to standard error, after "baton: ", in lower case and without a period;
//   - what may be done about it is a line of its own, after "hint: ";
//   - what was asked for goes to standard output, and nothing else does.

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1   // the reload failed
	exitUser   = 100 // flag, config
	exitSystem = 111 // port taken, no permission, nobody at the control socket
)

// What the user can mend is one thing, in a file and on the command line.
type (
	mistake  = config.Mistake
	mistakes = config.Mistakes
)

// ui is where words go.
type ui struct{ out, err io.Writer }

// say prints what was asked for.
func (u *ui) say(format string, args ...any) { _, _ = fmt.Fprintf(u.out, format+"\n", args...) }

// warn prints what somebody should know.
func (u *ui) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(u.err, "baton: "+format+"\n", args...)
}

// hint prints what may be done about the warning before it.
func (u *ui) hint(text string) { _, _ = fmt.Fprintln(u.err, "hint: "+text) }

// fail explains err and returns its exit code.
func (u *ui) fail(err error) int {
	_, _ = fmt.Fprintln(u.err, explain(err))
	return exitCode(err)
}

func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitSystem
}

// explain is what a person reads of err. It has no newline at its end.
func explain(err error) string {
	var ms mistakes
	if errors.As(err, &ms) {
		return explainAll(ms)
	}
	var m *mistake
	if errors.As(err, &m) {
		return withHint("baton: "+m.Text(), m.Hint)
	}
	var t *trouble
	if errors.As(err, &t) {
		return withHint("baton: "+t.Error(), t.hint)
	}
	return withHint("baton: "+err.Error(), hintFor(err))
}

func explainAll(ms mistakes) string {
	var texts []string
	for _, m := range ms.First {
		texts = append(texts, withHint("baton: "+m.Text(), m.Hint))
	}
	if ms.More > 0 {
		texts = append(texts, "baton: and "+count(int64(ms.More), "more mistake"))
	}
	return strings.Join(texts, "\n")
}

// reason is what a log and `baton reload` say of err: one line.
func reason(err error) string {
	text := err.Error()
	var ms mistakes
	var m *mistake
	if errors.As(err, &ms) {
		m = ms.First[0]
	} else if !errors.As(err, &m) {
		return text
	}
	if m.Hint != "" {
		text += "; " + m.Hint
	}
	if len(ms.First) > 1 {
		text += "; `baton check` tells more"
	}
	return text
}

func withHint(text, hint string) string {
	if hint == "" {
		return text
	}
	return text + "\nhint: " + hint
}

// systemHints is what may be done about the system's errors. They are also known by their text: an error that has
// come from another process is no more than that.
var systemHints = []struct {
	about string // what the text begins with
	errno syscall.Errno
	hint  string
}{
	{"control socket: ", syscall.EADDRINUSE, "stop the other one, or give this one a control socket of its own (--control)"},
	{"", syscall.EADDRINUSE, "another process serves there: stop it, or choose another address (--port, or address in the config)"},
	{"", syscall.EADDRNOTAVAIL, "this machine does not have that address"},
	{"", syscall.EACCES, "ports below 1024 and other people's files need permission"},
	{"", syscall.EMFILE, "raise the limit of open files (ulimit -n)"},
}

func hintFor(err error) string {
	for _, h := range systemHints {
		text := err.Error()
		if strings.HasPrefix(text, h.about) && (errors.Is(err, h.errno) || strings.Contains(text, h.errno.Error())) {
			return h.hint
		}
	}
	return ""
}

// trouble is the system's: nothing that the user typed is wrong.
type trouble struct {
	err  error
	hint string
}

func (t *trouble) Error() string { return t.err.Error() }
func (t *trouble) Unwrap() error { return t.err }
func (t *trouble) ExitCode() int { return exitSystem }
