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

// MaxSize is the size in bytes that a config or a certificate may have.
const MaxSize = 16 << 20

// pipeTime is how long the end of a pipe is waited for.
const pipeTime = 10 * time.Second

// ReadFile reads a regular file of at most [MaxSize] bytes, or a pipe that this process was started with, as /dev/stdin
// or /dev/fd/63. Other files may have no end. A pipe can be read only once, and so it cannot be watched.
func ReadFile(path string) (text []byte, pipe bool, err error) { return readFile(path, pipeTime) }

func readFile(path string, wait time.Duration) (text []byte, pipe bool, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe without a writer would block
	if errors.Is(err, unix.ENXIO) {
		return nil, false, &UsageError{What: path + " is a socket"}
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
		err = &UsageError{What: fmt.Sprintf("%s did not end within %s", path, wait)}
	case err == nil && pipe && len(text) == 0:
		err = &UsageError{What: path + " is at its end: a pipe can be read only once"}
	case err == nil && len(text) > MaxSize:
		err = &UsageError{What: fmt.Sprintf("%s is larger than %d MB", path, MaxSize>>20)}
	}
	return text, pipe, err
}

// kindOf refuses files that may have no end.
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
		return false, &UsageError{What: f.Name() + " is not a regular file"}
	}
}

// isDescriptor reports whether a path names a file that the process has open.
func isDescriptor(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}
