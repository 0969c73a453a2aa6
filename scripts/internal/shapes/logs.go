package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"baton/master/mastertest"
)

// rotate gives the log another name, as logrotate does, and says so. The next lines go to a new file of the old name.
func (w *walk) rotate() {
	if err := os.Rename(w.path("b.log"), w.path("b.log.1")); err != nil {
		w.findf("log", "%v", err)
		return
	}
	w.signal(syscall.SIGUSR1)
	err := w.until(patience, func() error {
		_, err := os.Lstat(w.path("b.log"))
		return err
	})
	if err != nil {
		w.findf("log", "after USR1: %v", err)
	}
}

// reopened: nobody has the old log any more, which may be compressed or removed now.
func (w *walk) reopened() {
	old := w.path("b.log.1")
	if _, err := os.Lstat(old); err != nil || w.failed() {
		return
	}
	err := w.until(patience, func() error {
		for _, pid := range append(w.baton.Tree(), w.baton.PID()) {
			if files, err := mastertest.OpenFDs(pid); err == nil && slices.Contains(files, old) {
				return fmt.Errorf("process %d (%s) still has the log's old file", pid, mastertest.CommandLine(pid))
			}
		}
		return nil
	})
	if err != nil {
		w.findf("log", "after USR1: %v", err)
	}
	_ = os.Remove(old)
}

// logged: the log says which generation serves, in the file that has the name now.
func (w *walk) logged(before int) {
	if w.failed() {
		return
	}
	st, err := w.status()
	if err != nil || st.Generation <= before {
		return
	}
	line := fmt.Sprintf("generation=%d ", st.Generation)
	err = w.until(5*time.Second, func() error {
		if !strings.Contains(w.read("b.log"), line) {
			return fmt.Errorf("b.log does not say %q", line)
		}
		return nil
	})
	if err != nil {
		w.findf("log", "%v; it has %d bytes, b.log.1 %d", err, len(w.read("b.log")), len(w.read("b.log.1")))
	}
}

// read is a file of the walk, empty if there is none.
func (w *walk) read(name string) string {
	b, _ := os.ReadFile(w.path(name))
	return string(b)
}

// log is all that baton has said, as far as it is still there.
func (w *walk) log() string { return w.read("log") + w.read("b.log.1") + w.read("b.log") }

// complaints are lines of the log that nothing may cause.
func (w *walk) complaints() {
	for line := range strings.Lines(w.log()) {
		for _, bad := range []string{"BUG:", "panic:", "fatal error:", "DATA RACE"} {
			if strings.Contains(line, bad) {
				w.findf("log", "%s", strings.TrimSpace(line))
			}
		}
	}
}

// tail is the end of the log.
func (w *walk) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(w.log()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
