package master

import (
	"context"
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
	_ = m.keeper.Post(wire.Upgrading{Attempt: attempt})
	go m.runUpgrade(attempt, m.gen+1)
}

// runUpgrade is the one place that changes os.Args and the environment for the successor, until it has taken over or is
// gone. Meanwhile startWorker may replace a crashed worker: it uses m.args, and drops the mark of the attempt. Nothing of
// the user's runs meanwhile: Load would see the successor's arguments.
func (m *master) runUpgrade(attempt string, gen int) {
	m.loading.Lock()
	defer m.loading.Unlock()
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

// reportOldest tells the keeper which generation the oldest worker is of. Those who wait for older ones to be gone are
// answered then.
func (m *master) reportOldest() {
	if !m.known || m.over {
		return // the predecessor's workers are not known yet, or not ours any more
	}
	oldest := m.gen
	for _, p := range m.procs {
		oldest = min(oldest, p.gen)
	}
	if oldest != m.oldest {
		m.oldest = oldest
		_ = m.keeper.Post(wire.Oldest{Generation: oldest})
	}
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
		Valid:   func() error { _, err := m.loadConfig(ctx); return err },
		Changed: func() { _ = m.keeper.Post(wire.Request{Source: wire.SourceWatch}) },
	})
}

// loadConfig is the only caller of Options.Load, and calls it once at a time.
func (m *master) loadConfig(ctx context.Context) (Config, error) {
	m.loading.Lock()
	defer m.loading.Unlock()
	return m.opts.Load(ctx)
}
