package master

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/ownfile"
	"baton/worker/rawfd"
	"baton/worker/wire"
)

// The PID file is locked (flock) as long as the supervisor has it open: so it is certain that the baton which has
// written it runs, or that it does not, whatever process has its PID by now.

// pidFile is the file that is at the path of a PID file, and that another one may replace unless it is in use.
type pidFile struct {
	file    wire.Path
	pid     int  // that is in it; 0: none, or the file is ours and somebody has changed it
	locked  bool // by a baton
	running bool // the process with that PID, since before the file was written
}

// inUse returns an error if the file may not be replaced by one with pid in it.
func (p pidFile) inUse(pid int) error {
	if p.locked || p.running && p.pid != pid {
		return fmt.Errorf("process %d is running", p.pid)
	}
	return nil
}

// maxPIDText is more bytes than a number has.
const maxPIDText = 32

// readPIDFile returns the file at path; own is the one that this program has made there before. The error is
// fs.ErrNotExist if there is none, and says so if it is no PID file.
func readPIDFile(path string, own wire.Path) (p pidFile, err error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return p, err
	}
	if p.file, err = ownfile.At(path); err != nil {
		return p, err
	}
	if fi.Mode().Type() != 0 {
		return p, fmt.Errorf("there is a %s already", ownfile.Kind(fi.Mode()))
	}
	if own.Text = ""; p.file == own {
		return p, nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return p, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxPIDText))
	if err != nil || len(text) == 0 {
		return p, err
	}
	if p.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil || p.pid <= 0 {
		return p, errors.New("there is a file already, and it is no PID file")
	}
	p.locked = errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	p.running = running(p.pid, fi.ModTime())
	return p, nil
}

// running reports whether there is a process with that PID which is as old as the file that has it: after a boot the
// PID is often another process's.
func running(pid int, written time.Time) bool {
	if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const state, start, ticks = 0, 19, 100 // the 3rd and the 22nd of proc(5), in hundredths of a second
	if len(fields) <= start || string(fields[state]) == "Z" {
		return false
	}
	n, err := strconv.ParseInt(string(fields[start]), 10, 64)
	var now unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return true
	}
	age := time.Duration(now.Nano()) - time.Duration(n)*(time.Second/ticks)
	return !time.Now().Add(-age).After(written.Add(time.Second))
}

// checkPIDFile returns an error if a PID file cannot be written, or may not. own is the file that this program has made
// there before.
func checkPIDFile(path string, pid int, own wire.Path) error {
	p, err := readPIDFile(path, own)
	switch {
	case err == nil:
		err = p.inUse(pid)
	case errors.Is(err, fs.ErrNotExist):
		err = unix.Access(filepath.Dir(path), unix.W_OK)
	}
	return pidFileError(path, err)
}

// pidFileError names the path that the user has named, and no other.
func pidFileError(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("pid_file %s: %w", path, withoutPath(err))
}

// writePIDFile writes a new file, in one step, and returns it, open and locked. It follows no link, and replaces only a
// PID file that is not in use.
func writePIDFile(path string, pid int, own wire.Path) (fd int, f wire.Path, err error) {
	p, err := readPIDFile(path, own)
	if err == nil {
		err = p.inUse(pid)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return -1, f, pidFileError(path, err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return -1, f, pidFileError(path, err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	defer func() { _ = tmp.Close() }()
	text := strconv.Itoa(pid) + "\n"
	if _, err = tmp.WriteString(text); err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		fd, err = rawfd.Dup(int(tmp.Fd()))
	}
	if err != nil {
		return -1, f, pidFileError(path, err)
	}
	_ = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) // nobody else has it
	ownfile.Remove(p.file)
	if err = os.Link(tmp.Name(), path); err == nil {
		f, err = ownfile.Of(fd, path)
	}
	f.Text = text
	return fd, f, pidFileError(path, err)
}
