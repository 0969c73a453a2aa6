package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// Everything that a person reads goes through this file:
//   - what went wrong goes to standard error, after "baton: ", in lower case and without a period;
//   - what may be done about it is a line of its own, after "hint: ";
//   - what was asked for goes to standard output, and nothing else does.

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1   // the reload or the resize failed
	exitUser   = 100 // flag, config
	exitSystem = 111 // port taken, no permission, nothing at the control socket
)

// usageError is a mistake of the user, in a file or on the command line. Any error that says nothing else about its
// exit code is trouble with the system.
type usageError = config.UsageError

// reloadError says why a reload failed.
type reloadError struct{ reason string }

func (e *reloadError) Error() string { return "reload failed: " + e.reason }

// ExitCode returns the exit code of the process.
func (e *reloadError) ExitCode() int { return exitFailed }

// exited is the exit code of a server, which has said why. 0 is no error.
func exited(code int) error {
	if code == exitOK {
		return nil
	}
	return exitedError(code)
}

type exitedError int

func (e exitedError) Error() string { return "" }

// ExitCode returns the exit code of the process.
func (e exitedError) ExitCode() int { return int(e) }

// ui is where words go.
type ui struct{ out, err io.Writer }

// say prints what was asked for.
func (u *ui) say(format string, args ...any) { _, _ = fmt.Fprintf(u.out, format+"\n", args...) }

// warn prints what the user should know.
func (u *ui) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(u.err, "baton: "+format+"\n", args...)
}

// fail explains err, if there is one, and returns the exit code.
func (u *ui) fail(err error) int {
	if err != nil && err.Error() != "" {
		_, _ = fmt.Fprintln(u.err, explain(err))
	}
	return exitCode(err)
}

// exitCode returns the exit code of a process that ends with err.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	var answer *master.ControlError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		return coded.ExitCode()
	case errors.As(err, &answer) && answer.Code == http.StatusBadRequest:
		return exitUser
	case errors.As(err, &answer) && answer.Code == http.StatusConflict:
		return exitFailed
	}
	return exitSystem
}

// explain returns what a person reads of err: all mistakes, with their lines and hints. It has no newline at its end.
func explain(err error) string {
	var all config.UsageErrors
	var one *usageError
	if !errors.As(err, &all) {
		if errors.As(err, &one) {
			return withHint("baton: "+one.Text(), one.Hint)
		}
		return withHint("baton: "+err.Error(), hintFor(err))
	}
	var texts []string
	for _, e := range all.First {
		texts = append(texts, withHint("baton: "+e.Text(), e.Hint))
	}
	if all.More > 0 {
		texts = append(texts, "baton: and "+count(int64(all.More), "more mistake"))
	}
	return strings.Join(texts, "\n")
}

// reason returns what a log and `baton reload` say of err: one line.
func reason(err error) string {
	text := err.Error()
	var all config.UsageErrors
	var one *usageError
	if errors.As(err, &all) {
		one = all.First[0]
	} else if !errors.As(err, &one) {
		return text
	}
	if one.Hint != "" {
		text += "; " + one.Hint
	}
	if len(all.First) > 1 {
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

// hints say what may be done about errors. The system's are also known by their text: an error that comes from another
// process is no more than that.
var hints = []struct {
	prefix string // of the text
	errno  syscall.Errno
	hint   string
}{
	{"reload failed: ", 0, "the generation before it serves on"},
	{
		"nothing listens on the control socket ", 0,
		"is baton running? --control names its socket, or --config the file that does",
	},
	{"control socket ", syscall.EACCES, "only the user who runs baton may use it"},
	{"process ", syscall.ESRCH, "`baton stop` must run where it sees baton's processes: in the same container"},
	{
		"control socket: ", syscall.EADDRINUSE,
		"stop the other one, or give this one a control socket of its own (--control)",
	},
	{
		"", syscall.EADDRINUSE,
		"another process serves there: stop it, or choose another address (--port, or address in the config)",
	},
	{"", syscall.EADDRNOTAVAIL, "this machine does not have that address"},
	{"", syscall.EACCES, "ports below 1024 and other users' files need permission"},
	{"", syscall.EMFILE, "raise the limit of open files (ulimit -n)"},
}

func hintFor(err error) string {
	for _, h := range hints {
		text := err.Error()
		if strings.HasPrefix(text, h.prefix) && (h.errno == 0 || errors.Is(err, h.errno) ||
			strings.Contains(text, h.errno.Error())) {
			return h.hint
		}
	}
	return ""
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
