package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"baton/master/internal/watch"
	"baton/master/keeper"
	"baton/worker"
	"baton/worker/wire"
)

// startUpgrade starts the successor. tableflip answers when it has called Ready, or is gone.
func (m *master) startUpgrade(attempt string) {
	if m.stopping || m.upgrading != "" {
		_ = m.keeper.Post(wire.UpgradeFailed{Attempt: attempt, Error: "the master is busy"})
		return
	}
	m.upgrading = attempt
	go m.runUpgrade(attempt, m.gen+1)
}

// runUpgrade is the one place that changes os.Args and the environment for the successor, until it has taken over or is
// gone. Meanwhile startWorker may replace a crashed worker: it uses m.args, and drops the mark of the attempt.
func (m *master) runUpgrade(attempt string, gen int) {
	_ = m.upg.WaitForParent(context.Background())
	_ = os.Setenv(keeper.AttemptEnv, attempt)
	for tries := 0; ; tries++ {
		err := m.flip(gen)
		if !transient(err) || tries == maxTries {
			m.upgrade <- err
			return
		}
		time.Sleep(retryPause)
	}
}

// A just installed binary is busy for a moment if a forked child still holds it open for writing, and tableflip notices
// the end of the predecessor a moment after the keeper does. Neither sends an event.
const (
	maxTries   = 100
	retryPause = 2 * time.Millisecond
)

func transient(err error) bool {
	if err == nil {
		return false
	}
	text := err.Error() // tableflip wraps nothing
	return strings.Contains(text, syscall.ETXTBSY.Error()) || strings.Contains(text, "parent hasn't exited") ||
		strings.Contains(text, "process is not ready yet")
}

// flip runs tableflip with the argv that names the successor in ps.
func (m *master) flip(gen int) error {
	os.Args = append([]string{m.args[0], fmt.Sprintf("%s %d", worker.RoleMaster, gen)}, m.args[1:]...)
	defer func() { os.Args = m.args }()
	return m.upg.Upgrade()
}

// onUpgrade: tableflip says that the successor is the one, which COMMIT has said before, or that it is gone.
func (m *master) onUpgrade(err error) {
	attempt := m.upgrading
	m.upgrading = ""
	if err == nil {
		return // Superseded comes, or has come
	}
	// tableflip leaves two descriptors of a failed child to the garbage collector.
	runtime.GC()
	_ = m.keeper.Post(wire.UpgradeFailed{Attempt: attempt, Error: fmt.Sprintf("successor: %s: %v before it was ready", m.args[0], err)})
}

// onResult notes how a reload has ended; those who wait for it are answered next.
func (m *master) onResult(r wire.Result) {
	m.results = append(m.results, r)
	if len(m.results) > maxResults {
		m.results = m.results[1:]
	}
}

const maxResults = 64

// resultOf is how request id ended: by the first attempt that had seen it.
func (m *master) resultOf(id int64) (wire.Result, bool) {
	for _, r := range m.results {
		if r.Seen >= id {
			return r, true
		}
	}
	return wire.Result{}, false
}

func (m *master) onRequested(r wire.Requested) {
	if ch, ok := m.tags[r.Tag]; ok {
		delete(m.tags, r.Tag)
		ch <- r.ID
	}
}

// waiter is somebody who asked how a reload ends.
type waiter struct {
	ctx     context.Context
	id      int64
	drained bool // and waits for the older generations to be gone
	reply   chan<- awaited
}

type awaited struct {
	answer ReloadAnswer
	err    error
}

// answerWaiters answers those whose reload has ended, and sends the others to the next master when this one is over.
func (m *master) answerWaiters() {
	var left []waiter
	for _, w := range m.waiters {
		a, done := m.answerFor(w)
		switch {
		case done:
			w.reply <- a
		case m.over || m.stopping:
			w.reply <- awaited{err: m.overError()}
		case w.ctx.Err() == nil:
			left = append(left, w)
		}
	}
	m.waiters = left
}

func (m *master) overError() error {
	if m.stopping {
		return errors.New("stopping")
	}
	return errSuperseded
}

func (m *master) answerFor(w waiter) (awaited, bool) {
	r, ok := m.resultOf(w.id)
	if !ok {
		return awaited{}, false
	}
	a := ReloadAnswer{ID: w.id, OK: r.OK, Error: r.Error, Generation: r.Generation}
	if !w.drained || !r.OK {
		return awaited{answer: a}, true
	}
	if m.gen < r.Generation || !m.onlyFrom(r.Generation) {
		return awaited{}, false
	}
	a.Drained = true
	a.CutRequests = m.counts.CutRequests - m.counts.AtCommit.CutRequests
	a.CutConnections = m.counts.CutConnections - m.counts.AtCommit.CutConnections
	return awaited{answer: a}, true
}

// onlyFrom reports whether every worker is of generation gen or later.
func (m *master) onlyFrom(gen int) bool {
	if !m.known {
		return false // the predecessor's workers are not known yet
	}
	for _, p := range m.procs {
		if p.gen < gen {
			return false
		}
	}
	return true
}

// startWatch begins to watch the files of the config.
func (m *master) startWatch() {
	if len(m.cfg.Watch) == 0 || m.stopWatch != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stopWatch = cancel
	go watch.Run(ctx, watch.Options{
		Files: m.cfg.Watch, Loaded: m.sum, Log: m.log,
		Valid:   func() error { _, err := m.opts.Load(ctx); return err },
		Changed: func() { _ = m.keeper.Post(wire.Request{Source: wire.SourceWatch}) },
	})
}
