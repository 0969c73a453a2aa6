package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MaxSize is how large a file may be, the config or a certificate.
const MaxSize = 16 << 20

// pipeTime is how long a pipe may take to its end.
const pipeTime = 10 * time.Second

// irregularError is about what is no file of a usual size.
type irregularError struct{ what string }

func (e *irregularError) Error() string { return e.what }

// ExitCode is that of a user's mistake.
func (e *irregularError) ExitCode() int { return exitCode }

// ReadFile reads a file to its end, which there is: nothing but regular files of at most [MaxSize] bytes, and pipes
// that this process was started with, as /dev/stdin or /dev/fd/63. A pipe has the same only once: it cannot be watched.
func ReadFile(path string) (text []byte, pipe bool, err error) { return readFile(path, pipeTime) }

func readFile(path string, wait time.Duration) (text []byte, pipe bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe without a writer would block
	if errors.Is(err, unix.ENXIO) {
		return nil, false, &irregularError{path + " is a socket"}
	}
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = f.Close() }()
	if pipe, err = kindOf(f); err != nil {
		return nil, false, err
	}
	if pipe {
		_ = f.SetReadDeadline(time.Now().Add(wait))
	}
	text, err = io.ReadAll(io.LimitReader(f, MaxSize+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &irregularError{fmt.Sprintf("%s did not end within %s", path, wait)}
	case err == nil && pipe && len(text) == 0:
		err = &irregularError{path + " is at its end: a pipe has the same only once"}
	case err == nil && len(text) > MaxSize:
		err = &irregularError{fmt.Sprintf("%s is larger than %d MB", path, MaxSize>>20)}
	}
	return text, pipe, err
}

// kindOf refuses what may have no end.
func kindOf(f *os.File) (pipe bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return false, nil
	case mode.IsDir():
		return false, &fs.PathError{Op: "read", Path: f.Name(), Err: unix.EISDIR}
	case mode&fs.ModeNamedPipe != 0 && isDescriptor(f.Name()):
		return true, nil
	default:
		return false, &irregularError{f.Name() + " is not a regular file"}
	}
}

// isDescriptor reports whether a path names what the process has open.
func isDescriptor(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}
