package master

import (
	"context"
	"fmt"

	"baton/master/internal/message"
	"baton/master/internal/supervisor"
	"baton/master/internal/watch"
	"baton/worker"
)

// startUpgrade starts the successor. Nothing of the user's runs until it has taken over or has gone, for Load would see
// its arguments. startWorker may replace a crashed worker: it uses m.args, and drops the mark of the attempt.
func (m *master) startUpgrade(attempt string) {
	if m.upgrading != "" || !m.enter(eventRequest) {
		_ = m.supervisor.Post(message.UpgradeFailed{Attempt: attempt, Error: "the master is busy"})
		return
	}
	m.upgrading = attempt
	_ = m.supervisor.Post(message.Upgrading{Attempt: attempt})
	title := fmt.Sprintf("%s %d", worker.RoleMaster, m.gen+1)
	env := map[string]string{worker.RoleEnv: worker.RoleMaster, supervisor.AttemptEnv: attempt}
	go func() {
		m.loading.Lock()
		defer m.loading.Unlock()
		err := m.upg.Start(m.args, title, env)
		m.send(func() { m.onUpgrade(err) })
	}()
}

// onUpgrade: the successor is the master, which COMMIT has said before, or it has gone.
func (m *master) onUpgrade(err error) {
	attempt := m.upgrading
	m.upgrading = ""
	if err == nil {
		return // Superseded comes, or has come
	}
	_ = m.supervisor.Post(message.UpgradeFailed{Attempt: attempt, Error: fmt.Sprintf("successor: %s: %v before it was ready", m.args[0], err)})
}

// reportOldest tells the supervisor which generation the oldest worker is of. Those who wait for older ones to be gone are
// answered then.
func (m *master) reportOldest() {
	if !m.phase.isAlone() || m.phase.isOver() {
		return // the predecessor's workers are not known yet, or not ours any more
	}
	oldest := m.gen
	for _, p := range m.procs {
		oldest = min(oldest, p.Generation)
	}
	if oldest != m.oldest {
		m.oldest = oldest
		_ = m.supervisor.Post(message.Oldest{Generation: oldest})
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
		Changed: func() { _ = m.supervisor.Post(message.ReloadRequest{Source: message.SourceWatch}) },
	})
}

// loadConfig is the only caller of Options.Load, and calls it once at a time.
func (m *master) loadConfig(ctx context.Context) (Config, error) {
	m.loading.Lock()
	defer m.loading.Unlock()
	return m.opts.Load(ctx)
}
