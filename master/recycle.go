package master

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"baton/master/internal/monotime"
	"baton/master/keeper"
)

// measureEvery is how often the memory of the workers is looked at, where max_memory is set.
const measureEvery = time.Second

// memoryYoung: a worker that has too much memory when it is younger is no better for being replaced.
const memoryYoung = 10 * time.Second

// recycleState is what a master remembers of recycling. It dies with the generation.
type recycleState struct {
	failed  pause  // replacements in a row that have never served
	failure string // of the last one
	memory  pause  // workers in a row that were young
	fat     string // the last one of them

	measureAt monotime.Time // the next look at the workers' memory; 0: never
}

// pause is how long something that does not help is not tried again: a second, and twice as long each time.
type pause struct {
	count int
	until monotime.Time
}

const (
	pauseFirst = time.Second
	pauseMax   = 5 * time.Minute
)

func (p *pause) longer(now monotime.Time) {
	p.until = now.Add(min(pauseMax, pauseFirst<<min(p.count, 20)))
	p.count++
}

func (m *master) recycleView() recycleView {
	return recycleView{
		maxAge: m.cfg.MaxAge, wait: m.upgrading != "" || !m.known,
		notBefore: m.recycle.failed.until, memoryAfter: m.recycle.memory.until,
	}
}

// startReplacement starts the worker that is to take the place of old.
func (m *master) startReplacement(old *proc, why string) {
	m.log.Info("worker is recycled", "generation", old.gen, "slot", old.slot, "pid", old.pid, "because", why)
	old.recycled = why
	if err := m.startWorker(old.slot, old.pid); err != nil {
		m.cannotReplace(err.Error())
	}
}

// retire drains a worker whose replacement serves.
func (m *master) retire(old *proc, deadline monotime.Time) {
	r := &m.recycle
	r.failed, r.failure = pause{}, ""
	if old.recycled == whyMemory {
		m.judgeMemory(old)
	}
	m.counts.Recycled++
	m.saveCounts()
	m.drain(old, deadline)
}

// judgeMemory makes the pause longer if it does not help to replace workers.
func (m *master) judgeMemory(old *proc) {
	r := &m.recycle
	age := time.Duration(old.fat - old.started)
	if age >= memoryYoung {
		r.memory, r.fat = pause{}, ""
		return
	}
	r.memory.longer(monotime.Now())
	r.fat = fmt.Sprintf("max_memory (%d bytes) is too small: the worker in slot %d had %d bytes when it was %.1fs old", m.cfg.MaxMemory, old.slot, old.rss, age.Seconds())
	m.log.Warn("master: "+r.fat, "again", m.recycle.memory.count, "pause", time.Duration(r.memory.until-monotime.Now()).Round(time.Second))
}

// replacementFailed notes it if p was to take the place of another worker, which serves on.
func (m *master) replacementFailed(p *proc) bool {
	if p.replaces == 0 || p.state == procServing {
		return false
	}
	m.cannotReplace(p.end())
	return true
}

func (m *master) cannotReplace(because string) {
	r := &m.recycle
	r.failed.longer(monotime.Now())
	r.failure = because
	m.log.Error("master: a worker cannot be recycled, the old one serves on", "because", because, "failures", r.failed.count,
		"pause", time.Duration(r.failed.until-monotime.Now()).Round(time.Second))
}

// warnings are for status, as long as something does not help.
func (r *recycleState) warnings() []string {
	var all []string
	if r.failed.count > 0 {
		all = append(all, fmt.Sprintf("recycling has failed %d times in a row, the old worker serves on: %s", r.failed.count, r.failure))
	}
	if r.memory.count > 0 {
		all = append(all, r.fat)
	}
	return all
}

// forgetReplaced: whose place a worker was to take has gone, however. The number may be another one's soon.
func (m *master) forgetReplaced() {
	for _, p := range m.procs {
		if p.replaces == 0 || m.procs[p.replaces] != nil {
			continue
		}
		p.replaces, p.record.Replaces = 0, 0
		m.store(keeper.WorkerEntry(p.pid), p.record, -1)
	}
}

// replacementOf is the worker that is to take the place of p, or nil.
func (m *master) replacementOf(p *proc) *proc {
	for _, q := range m.procs {
		if q.replaces == p.pid {
			return q
		}
	}
	return nil
}

// measure looks at the memory of the workers, once a second where there is a limit.
func (m *master) measure(now monotime.Time) {
	if m.cfg.MaxMemory == 0 || !m.committed || m.stopping {
		m.recycle.measureAt = 0
		return
	}
	if now < m.recycle.measureAt {
		return
	}
	m.recycle.measureAt = now.Add(measureEvery)
	fat := false
	for _, p := range m.procs {
		if p.gen != m.gen || p.state != procServing {
			continue
		}
		p.rss = rss(p.pid)
		if p.rss <= about(m.cfg.MaxMemory, p.pid) {
			p.fat = 0
			continue
		}
		if fat = true; p.fat == 0 {
			p.fat = now
		}
	}
	if r := &m.recycle; !fat && now > r.memory.until.Add(memoryYoung) {
		r.memory, r.fat = pause{}, ""
	}
}

// rss is the resident memory of a process in bytes, 0 if it cannot be known. The file costs no walk through its memory.
func rss(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}
