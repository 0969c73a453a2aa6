package master

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/master/internal/plan"
)

// heartbeats are what workers with a hang_timeout show of their life: 8 bytes in a memory file that change four times
// in that time. The file is in the registry, one for each generation, and where in it the worker's bytes are is in its
// record, so that a master that adopts the worker sees it as well. A worker is watched from GO to its end, also while
// it drains, and by the timeout of its own generation.
//
// The master looks four times in a hang_timeout. If it comes too late for a look it did not run itself: then the
// machine was suspended, or all of us were stopped, and every worker gets a full timeout from now on.
type heartbeats struct {
	files map[int]int   // by generation
	next  monotime.Time // the next look; 0: no worker is watched
}

// entryHeart is the registry's entry of a generation's memory file: heart/<generation>.
const entryHeart = "heart/"

func heartEntry(gen int) string { return entryHeart + strconv.Itoa(gen) }

const beatSize = 8 // bytes

// open makes the memory file of a generation, or takes it when this is a master's restart.
func (h *heartbeats) open(r *registry, gen int) (err error) {
	if e, ok := r.claim(heartEntry(gen)); ok {
		h.files[gen] = e.fd
		return nil
	}
	if h.files[gen], err = unix.MemfdCreate("heart", unix.MFD_CLOEXEC); err == nil {
		r.store(heartEntry(gen), "", h.files[gen])
	}
	return err
}

// assign chooses the bytes of a new worker in its generation's file.
func (h *heartbeats) assign(p *proc, timeout time.Duration, others map[int]*proc) {
	if timeout <= 0 {
		return
	}
	used := map[int64]bool{}
	for _, o := range others {
		used[o.record.Heart] = used[o.record.Heart] || o.Generation == p.Generation && o.record.HangTimeout > 0
	}
	for used[p.record.Heart] {
		p.record.Heart += beatSize
	}
	p.record.HangTimeout = int64(timeout)
	p.HangTimeout = timeout
}

// find finds the bytes of a worker that is adopted.
func (h *heartbeats) find(r *registry, p *proc) error {
	if p.record.HangTimeout == 0 {
		return nil
	}
	if _, ok := h.files[p.Generation]; !ok {
		e, _ := r.claim(heartEntry(p.Generation))
		if e.fd < 0 {
			return fmt.Errorf("its heartbeat is not in the registry")
		}
		h.files[p.Generation] = e.fd
	}
	p.HangTimeout = time.Duration(p.record.HangTimeout)
	return nil
}

// dropOld closes the files of the generations that have no worker, except for gen.
func (h *heartbeats) dropOld(r *registry, gen int, workers map[int]*proc) {
	live := map[string]bool{heartEntry(gen): true}
	for _, p := range workers {
		live[heartEntry(p.Generation)] = true
	}
	for name := range r.inherited {
		if strings.HasPrefix(name, entryHeart) && !live[name] {
			r.discard(name)
			r.drop(name)
		}
	}
	for gen, fd := range h.files {
		if name := heartEntry(gen); !live[name] {
			_ = unix.Close(fd)
			delete(h.files, gen)
			r.drop(name)
		}
	}
}

// check looks at all heartbeats, and returns for how long the master did not run, if it comes too late for that.
func (h *heartbeats) check(now monotime.Time, workers map[int]*proc) (missed time.Duration) {
	every := time.Duration(0)
	for _, p := range workers {
		if p.HangTimeout > 0 && (every == 0 || p.HangTimeout/4 < every) {
			every = max(p.HangTimeout/4, time.Millisecond)
		}
	}
	if every > 0 && h.next != 0 && now > h.next.Add(every) {
		missed = now.Sub(h.next)
	}
	for _, p := range workers {
		beat := h.read(p)
		if missed > 0 || beat != p.beat || p.LastBeat == 0 || p.State == plan.Starting || p.State == plan.Ready {
			p.beat, p.LastBeat = beat, now
		}
	}
	if h.next = 0; every > 0 {
		h.next = now.Add(every)
	}
	return missed
}

func (h *heartbeats) read(p *proc) uint64 {
	if p.HangTimeout == 0 {
		return 0
	}
	var b [beatSize]byte
	_, _ = unix.Pread(h.files[p.Generation], b[:], p.record.Heart) // what was not written yet is 0
	return binary.NativeEndian.Uint64(b[:])
}
