package master

import (
	"bytes"
	"errors"
	"fmt"
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

// The PID file is locked (flock) as long as the supervisor has it open: so it is for sure that a baton runs which has
// written it, or that none does, whatever the number is by now.

// pidFile is what is found at the path of a PID file.
type pidFile struct {
	mode    fs.FileMode // type bits
	text    string      // its beginning
	ours    bool        // this program has made it, and somebody else has changed it
	locked  bool        // by a baton
	running bool        // the process whose number it has, since before the file was written
}

// refuse says why the file may not be replaced by one with pid in it; nil: nobody misses it.
func (p pidFile) refuse(pid int) error {
	if p.ours {
		return nil
	}
	if p.mode.Type() != 0 {
		return fmt.Errorf("there is a %s already", ownfile.Kind(p.mode))
	}
	n, err := strconv.Atoi(strings.TrimSpace(p.text))
	switch {
	case p.text == "":
		return nil
	case err != nil || n <= 0:
		return errors.New("there is a file already, and it is no PID file")
	case p.locked, p.running && n != pid:
		return fmt.Errorf("process %d is running", n)
	}
	return nil
}

// maxPIDText is more than a number has.
const maxPIDText = 32

// lookAtPIDFile returns what is at the path, and which file that is. There is none: an error that is fs.ErrNotExist.
func lookAtPIDFile(path string, own wire.Path) (p pidFile, f wire.Path, err error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return p, f, err
	}
	if f, err = ownfile.At(path); err != nil || fi.Mode().Type() != 0 {
		return pidFile{mode: fi.Mode()}, f, err
	}
	if own.Text = ""; f == own {
		return pidFile{ours: true}, f, nil
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return p, f, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, maxPIDText)
	n, err := unix.Read(fd, b)
	if err != nil {
		return p, f, &os.PathError{Op: "read", Path: path, Err: err}
	}
	p.text = string(b[:n])
	p.locked = errors.Is(unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	if pid, err := strconv.Atoi(strings.TrimSpace(p.text)); err == nil {
		p.running = running(pid, fi.ModTime())
	}
	return p, f, nil
}

// running reports whether there is a process of that number which is as old as the file that has it: after the machine has
// started anew the number is often another one's.
func running(pid int, written time.Time) bool {
	if pid <= 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
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

// checkPIDFile returns an error if a PID file cannot be written, or may not. own is what this program has made there
// before.
func checkPIDFile(path string, pid int, own wire.Path) error {
	p, _, err := lookAtPIDFile(path, own)
	if err == nil {
		err = p.refuse(pid)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = unix.Access(filepath.Dir(path), unix.W_OK)
	}
	return pidFileError(path, err)
}

// pidFileError names the path that the user has named, and no other.
func pidFileError(path string, err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	return fmt.Errorf("pid_file %s: %w", path, err)
}

// writePIDFile writes a new file, in one step, and returns it, open and locked. It follows no link, and replaces nothing
// but what nobody misses.
func writePIDFile(path string, pid int, own wire.Path) (fd int, f wire.Path, err error) {
	p, old, err := lookAtPIDFile(path, own)
	if err == nil {
		err = p.refuse(pid)
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
	ownfile.Remove(old)
	if err = os.Link(tmp.Name(), path); err == nil {
		f, err = ownfile.Of(fd, path)
	}
	f.Text = text
	return fd, f, pidFileError(path, err)
}
