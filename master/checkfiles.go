package master

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"baton/worker/ownfile"
	"baton/worker/wire"
)

// A FileError says why a file that a configuration names cannot be made.
type FileError struct {
	Field string // of Config: Control, PIDFile, LogFile or Listen
	Index int    // in Listen
	Err   error
}

func (e *FileError) Error() string { return fmt.Sprintf("config: %s: %v", e.Field, e.Err) }
func (e *FileError) Unwrap() error { return e.Err }

// CheckFiles says which files of a configuration cannot be made, whatever is running, as far as that can be known
// without making them: a start and a reload would fail.
func CheckFiles(c Config) []*FileError {
	var errs []*FileError
	add := func(field string, i int, path string, check func(string) error) {
		if path == "" {
			return
		}
		if err := check(path); err != nil {
			errs = append(errs, &FileError{field, i, fmt.Errorf("%s: %w", path, withoutPath(err))})
		}
	}
	add("Control", 0, c.Control, socketFits)
	add("PIDFile", 0, c.PIDFile, pidFileFits)
	add("LogFile", 0, c.LogFile, logFits)
	for i, l := range c.Listen {
		if path, ok := strings.CutPrefix(l.Address, "unix:"); ok || filepath.IsAbs(path) {
			add("Listen", i, path, socketFits)
		}
	}
	return errs
}

// withoutPath takes the path out of an error: it is named already.
func withoutPath(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}

func socketFits(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dirFits(path)
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("there is a %s already", ownfile.Kind(fi.Mode()))
	}
	return nil
}

// pidFileFits does not mind a file that is in use: perhaps by the baton that is asked.
func pidFileFits(path string) error {
	_, err := readPIDFile(path, wire.Path{})
	if errors.Is(err, fs.ErrNotExist) {
		return dirFits(path)
	}
	return err
}

func logFits(path string) error {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dirFits(path)
	case err != nil:
		return err
	case fi.IsDir():
		return unix.EISDIR
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
}

// dirFits fails if no file can be made at path because of its directory.
func dirFits(path string) error {
	dir := filepath.Dir(path)
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = unix.ENOTDIR
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	if err != nil {
		return fmt.Errorf("its directory: %w", withoutPath(err))
	}
	return nil
}
