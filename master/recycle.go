package master

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/supervisor"
)

// measureEvery is how often the memory of the workers is looked at, where max_memory is set.
const measureEvery = time.Second

// startReplacement starts the worker that is to take the place of old.
func (m *master) startReplacement(old *proc, why string) {
	m.log.Info("worker is recycled", "generation", old.Generation, "slot", old.Slot, "pid", old.PID, "because", why)
	old.recycled = why
	if err := m.startWorker(old.Slot, old.PID); err != nil {
		m.cannotReplace(err.Error())
	}
}

// retire drains a worker whose replacement serves.
func (m *master) retire(old *proc, deadline monotime.Time) {
	m.recycling.Replaced()
	if old.recycled == plan.WhyMemory {
		text, again, pause := m.recycling.ReplacedForMemory(old.Worker, m.cfg.MaxMemory, old.rss, monotime.Now())
		if text != "" {
			m.log.Warn("master: "+text, "again", again, "pause", pause.Round(time.Second))
		}
	}
	m.counts.Recycled++
	m.saveCounts()
	m.drain(old, deadline)
}

// replacementFailed notes it if p was to take the place of another worker, which serves on.
func (m *master) replacementFailed(p *proc) bool {
	if p.Replaces == 0 || p.State == plan.Serving {
		return false
	}
	m.cannotReplace(p.end())
	return true
}

func (m *master) cannotReplace(because string) {
	failures, pause := m.recycling.Failed(because, monotime.Now())
	m.log.Error("master: a worker cannot be recycled, the old one serves on", "because", because, "failures", failures,
		"pause", pause.Round(time.Second))
}

// forgetReplaced: whose place a worker was to take has gone, however. The number may be another one's soon.
func (m *master) forgetReplaced() {
	for _, p := range m.procs {
		if p.Replaces == 0 || m.procs[p.Replaces] != nil {
			continue
		}
		p.Replaces, p.record.Replaces = 0, 0
		m.store(supervisor.WorkerEntry(p.PID), p.record, -1)
	}
}

// replacementOf is the worker that is to take the place of p, or nil.
func (m *master) replacementOf(p *proc) *proc {
	for _, q := range m.procs {
		if q.Replaces == p.PID {
			return q
		}
	}
	return nil
}

// measure looks at the memory of the workers, once a second where there is a limit.
func (m *master) measure(now monotime.Time) {
	if m.cfg.MaxMemory == 0 || !m.phase.isMaster() || m.phase.isStopping() {
		m.measureAt = 0
		return
	}
	if now < m.measureAt {
		return
	}
	m.measureAt = now.Add(measureEvery)
	over := false
	for _, p := range m.procs {
		if p.Generation != m.gen || p.State != plan.Serving {
			continue
		}
		p.rss = rss(p.PID)
		if p.rss <= plan.Jitter(m.cfg.MaxMemory, p.PID) {
			p.OverMemory = 0
			continue
		}
		if over = true; p.OverMemory == 0 {
			p.OverMemory = now
		}
	}
	if !over {
		m.recycling.MemorySuffices(now)
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
