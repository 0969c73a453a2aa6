package mastertest

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Failpoints holds or kills processes at the failpoints of a takeover. It works with a binary that was built with the
// tag batonsteps and started with [Failpoints.Env].
type Failpoints struct {
	tb  testing.TB
	dir string
}

// FailpointsBeforeCommit returns the failpoints at which nothing has happened yet.
func FailpointsBeforeCommit() []string {
	return []string{"started", "welcomed", "loaded", "bound", "spawned", "ready"}
}

// FailpointsAfterCommit returns the failpoints at which the reload has succeeded, and nobody's death can undo it.
func FailpointsAfterCommit() []string {
	return []string{"committed", "granted", "flipped", "takeover complete"}
}

// NewFailpoints begins with no orders.
func NewFailpoints(tb testing.TB) *Failpoints { return &Failpoints{tb, tb.TempDir()} }

// Env is the entry of the environment by which the processes find their orders.
func (s *Failpoints) Env() string { return "BATON_FAILPOINTS=" + s.dir }

// KillAt orders that the next master that comes to the step is killed there.
func (s *Failpoints) KillAt(step string) {
	s.tb.Helper()
	if err := os.WriteFile(s.dir+"/"+step+".kill", nil, 0o600); err != nil {
		s.tb.Fatal(err)
	}
}

// AwaitKilled waits until an order to kill has been carried out.
func (s *Failpoints) AwaitKilled(step string) {
	s.tb.Helper()
	Await(s.tb, Text("a master at the step "+step), func() bool {
		_, err := os.Stat(s.dir + "/" + step + ".kill")
		return err != nil
	})
}

// Held is a master that waits at a step.
type Held struct {
	PID int

	tb   testing.TB
	step string
	path string
}

// HoldAt orders that the next master that comes to the step waits there; await waits until one does.
func (s *Failpoints) HoldAt(step string) (await func() *Held) {
	s.tb.Helper()
	h := &Held{tb: s.tb, step: step, path: s.dir + "/" + step + ".go"}
	_ = os.Remove(h.path)
	for _, path := range []string{h.path, s.dir + "/" + step + ".hold"} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			s.tb.Fatal(err)
		}
	}
	// For writing as well, so that the end of the file does not come before its beginning.
	arrivals, err := os.OpenFile(s.dir+"/"+step+".hold", os.O_RDWR, 0)
	if err != nil {
		s.tb.Fatal(err)
	}
	return func() *Held {
		s.tb.Helper()
		defer arrivals.Close()
		_ = arrivals.SetReadDeadline(time.Now().Add(Timeout))
		buf := make([]byte, 32)
		n, err := arrivals.Read(buf)
		if err != nil {
			s.tb.Fatalf("no master came to the step %s: %v", step, err)
		}
		if h.PID, err = strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err != nil {
			s.tb.Fatal(err)
		}
		return h
	}
}

// Release lets the master go on.
func (h *Held) Release() {
	h.tb.Helper()
	h.release(false)
}

// ReleaseOrGone lets the master go on unless it has been ended meanwhile.
func (h *Held) ReleaseOrGone() {
	h.tb.Helper()
	h.release(true)
}

func (h *Held) release(mayBeGone bool) {
	h.tb.Helper()
	Await(h.tb, Text("the master at the step "+h.step+" to listen"), func() bool {
		if p, err := ReadProc(h.PID); mayBeGone && (err != nil || p.State == "Z") {
			return true
		}
		f, err := os.OpenFile(h.path, os.O_WRONLY|unix.O_NONBLOCK, 0) // fails until somebody reads
		if err == nil {
			f.Close()
		}
		return err == nil
	})
}
