package master

import (
	"fmt"

	"baton/master/internal/message"
	"baton/master/internal/supervisor"
	"baton/worker"
)

// reload is the successor's side of a reload, in its predecessor.
type reload struct {
	upg       upgrader
	upgrading string // the attempt that runs; empty: none
}

// onReload starts the successor. Nothing of the user's runs until it has taken over or has exited, for Load would see
// its arguments.
func (m *master) onReload(r message.Reload) {
	if m.upgrading != "" || !m.enter(eventRequest) {
		_ = m.supervisor.Post(message.UpgradeFailed{Attempt: r.Attempt, Error: "the master is busy"})
		return
	}
	m.upgrading = r.Attempt
	_ = m.supervisor.Post(message.Upgrading(r))
	title := fmt.Sprintf("%s %d", worker.RoleMaster, m.gen+1)
	env := map[string]string{worker.RoleEnv: worker.RoleMaster, supervisor.AttemptEnv: r.Attempt}
	go func() {
		m.loader.busy.Lock()
		defer m.loader.busy.Unlock()
		err := m.upg.Start(m.args, title, env)
		m.send(func() { m.onUpgrade(err) })
	}()
}

// onUpgrade ends an attempt: the successor is the master, which COMMIT has said before, or it has exited.
func (m *master) onUpgrade(err error) {
	failed := message.UpgradeFailed{Attempt: m.upgrading}
	m.upgrading = ""
	if err != nil {
		failed.Error = fmt.Sprintf("successor: %s: %v before it was ready", m.args[0], err)
		_ = m.supervisor.Post(failed)
	}
}
