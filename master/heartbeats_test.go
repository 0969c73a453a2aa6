package master

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
)

const (
	now = monotime.Time(1000 * time.Second)
	sec = monotime.Time(time.Second)
)

// watching watches workers, whose hearts the test is.
type watching struct {
	heartbeats
	procs map[int]*proc
	t     *testing.T
}

func watchWorkers(t *testing.T, timeouts ...time.Duration) *watching {
	t.Helper()
	fd, err := unix.MemfdCreate("heart", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	w := &watching{heartbeats{files: map[int]int{5: fd}}, map[int]*proc{}, t}
	for i, timeout := range timeouts {
		p := &proc{Worker: plan.Worker{PID: i + 1, Generation: 5, State: plan.Serving}}
		w.assign(p, timeout, w.procs)
		w.procs[p.PID] = p
	}
	return w
}

func (w *watching) look(at monotime.Time) { w.check(at, w.procs) }

func (w *watching) beats(pid int) {
	w.t.Helper()
	var b [beatSize]byte
	binary.NativeEndian.PutUint64(b[:], w.procs[pid].beat+1)
	if _, err := unix.Pwrite(w.files[5], b[:], w.procs[pid].record.Heart); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watching) wantSilent(pid int, d time.Duration, at monotime.Time) {
	w.t.Helper()
	if got := time.Duration(at - w.procs[pid].LastBeat); got != d {
		w.t.Errorf("worker %d has been silent for %v, want %v", pid, got, d)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	w := watchWorkers(t, 4*time.Second, 8*time.Second, 0)
	at := now
	for i := range 20 {
		if i >= 5 {
			w.beats(1)
		}
		w.look(at)
		if w.next != at+sec {
			t.Errorf("the next look is in %v", time.Duration(w.next-at))
		}
		at += sec
	}
	at -= sec
	w.wantSilent(1, 0, at)
	w.wantSilent(2, 19*time.Second, at)

	// A look that is a little late is nobody's fault either.
	w.look(at + 2*sec - 1)
	w.wantSilent(1, 2*time.Second-1, at+2*sec-1)
	w.wantSilent(2, 21*time.Second-1, at+2*sec-1)

	// The master itself did not run: everybody has a full timeout from now on.
	at += 10 * sec
	w.look(at)
	w.wantSilent(1, 0, at)
	w.wantSilent(2, 0, at)
	w.look(at + sec)
	w.wantSilent(2, time.Second, at+sec)
}

func TestListenToNobody(t *testing.T) {
	t.Parallel()
	w := watchWorkers(t, 0, 0)
	if w.look(now); w.next != 0 {
		t.Errorf("the next look is in %v", time.Duration(w.next-now))
	}
	w = watchWorkers(t, time.Second)
	w.procs[1].State = plan.Ready // is watched from GO on
	w.look(now)
	w.look(now + sec/4)
	w.wantSilent(1, 0, now+sec/4)
}

func TestHeartsHavePlacesOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := watchWorkers(t, time.Second, time.Second, time.Second)
	delete(w.procs, 2)
	// in another file
	w.procs[9] = &proc{
		Worker: plan.Worker{PID: 9, Generation: 4}, record: message.WorkerRecord{Heart: 24, HangTimeout: 1},
	}
	for pid := 10; pid < 14; pid++ {
		p := &proc{Worker: plan.Worker{PID: pid, Generation: 5}}
		w.assign(p, time.Second, w.procs)
		w.procs[pid] = p
	}
	places := map[int64]int{}
	for pid, p := range w.procs {
		if other, ok := places[p.record.Heart]; ok && pid != 9 && other != 9 {
			t.Errorf("workers %d and %d are both at %d", pid, other, p.record.Heart)
		}
		places[p.record.Heart] = pid
		if p.record.Heart > 6*beatSize {
			t.Errorf("worker %d is at %d, and there is room before", pid, p.record.Heart)
		}
	}
}
