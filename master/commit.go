package master

import (
	"fmt"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/spawn"
	"baton/master/internal/supervisor"
	"baton/worker/wire"
)

// stage puts into the registry what a master that takes our place would need: the executable and the config as bytes.
func (m *master) stage() error {
	if m.welcome.Role == message.RoleRestart {
		return m.supervisor.Post(m.timeouts())
	}
	exe, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("master: executable: %w", err)
	}
	m.store(supervisor.EntryExe, m.opts.Version, exe)
	_ = unix.Close(exe)

	b, err := wire.Marshal(storedConfig{Config: m.cfg, Sum: m.sum[:], Resolved: m.sockets.Resolved})
	if err != nil {
		return fmt.Errorf("master: config: %w", err)
	}
	fd, err := spawn.Memory("config", b)
	if err != nil {
		return err
	}
	m.store(entryConfig, "", fd)
	_ = unix.Close(fd)
	if m.want == m.cfg.workers() {
		m.storeCount()
	}
	return nil
}

func (m *master) storeCount() { m.putCount(message.Put{Resized: m.resized}) }

func (m *master) putCount(p message.Put) {
	p.Name = supervisor.EntryCount
	m.put(p, message.Slots{Count: m.want, Config: m.cfg.workers()}, -1)
}

// checkReadyTimeout fails a reload whose workers are late, and returns when to look again.
func (m *master) checkReadyTimeout() (next monotime.Time) {
	for _, p := range m.procs {
		if p.State != plan.Starting {
			continue
		}
		end := p.Started.Add(m.cfg.readyTimeout())
		if end <= monotime.Now() {
			m.fails(eventUnready, fmt.Errorf("worker %d (pid %d): not ready within %v", p.Slot, p.PID, m.cfg.readyTimeout()))
			return 0
		}
		if next == 0 || end < next {
			next = end
		}
	}
	return next
}

// serving tells the supervisor, and through it systemd, that whoever connects now is served.
func (m *master) serving() { _ = m.supervisor.Post(message.Serving{Workers: m.want}) }
