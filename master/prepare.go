package master

import (
	"fmt"

	"golang.org/x/sys/unix"

	"baton/master/internal/failpoint"
	"baton/master/internal/message"
	"baton/master/internal/spawn"
	"baton/master/internal/supervisor"
	"baton/worker"
	"baton/worker/wire"
)

// Entries of the registry that only masters look at.
const (
	entryConfig  = "config" // the config of the last COMMIT, and the sum of its files
	entryPID     = "pidfile"
	entryBalance = "balance"
)

// errNoListener is the mistake of a program that serves nothing.
var errNoListener error = userError("config: nothing to listen on")

// userError is an error that is not the system's.
type userError string

func (e userError) Error() string { return string(e) }

// ExitCode is that of a user's mistake.
func (userError) ExitCode() int { return exitUser }

// storedConfig is what a restarted master needs of the config: no file.
type storedConfig struct {
	Config   Config
	Sum      []byte
	Resolved map[string]string // see listen.Set
}

// prepare does everything that can fail, and nothing that anybody notices. What it puts into the registry is staged.
func (m *master) prepare() (err error) {
	m.gen = m.welcome.Generation
	worker.SetTitle(worker.RoleMaster, m.gen)
	failpoint.Hit(failpoint.Welcomed)
	if m.welcome.Role == message.RoleRestart {
		c, err := m.storedConfig()
		if err != nil {
			return fmt.Errorf("master: restart: %w", err)
		}
		m.cfg, m.sockets.Resolved = c.Config, c.Resolved
		copy(m.loader.sum[:], c.Sum)
		m.desired = m.desiredSlots(m.cfg.workers())
		return m.openAll()
	}
	if m.cfg, err = m.loader.settled(m.origin); err != nil {
		return err
	}
	m.desired = m.desiredSlots(m.cfg.workers())
	if err := m.supervisor.Post(m.cfg.timeouts()); err != nil {
		return err
	}
	failpoint.Hit(failpoint.Loaded)
	if err := m.openAll(); err != nil {
		return err
	}
	failpoint.Hit(failpoint.Bound)
	for slot := range m.desired {
		if err := m.startWorker(slot, 0); err != nil {
			return err
		}
	}
	failpoint.Hit(failpoint.Spawned)
	return nil
}

// storedConfig is the config of the last COMMIT.
func (r *registry) storedConfig() (c storedConfig, err error) {
	e, ok := r.inherited[entryConfig]
	if !ok {
		return c, fmt.Errorf("the registry has no config")
	}
	b, err := spawn.ReadMemory(e.fd)
	if err != nil {
		return c, err
	}
	if err := wire.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("config: %w", err)
	}
	return c, nil
}

func (c *Config) timeouts() message.Preparing {
	return message.Preparing{
		ReadyTimeout: int64(c.readyTimeout()), StopTimeout: int64(c.stopTimeout()),
		DrainTimeout: int64(c.drainTimeout()),
	}
}

// openAll opens what the configuration names: the log, the control socket, the listeners; and what workers share.
func (m *master) openAll() (err error) {
	for _, open := range []func() error{
		m.openFiles, m.openListeners, m.openTickets,
	} {
		if err := open(); err != nil {
			return err
		}
	}
	if m.cfg.HangTimeout > 0 {
		if err := m.heartbeats.open(&m.registry, m.gen); err != nil {
			return err
		}
	}
	if m.balance, err = m.openBalance(); err != nil {
		return err
	}
	m.payload, err = spawn.Memory("payload", m.cfg.Payload)
	return err
}

// stage puts into the registry what a master that takes our place would need: the executable and the config as bytes.
func (m *master) stage() error {
	if m.welcome.Role == message.RoleRestart {
		return m.supervisor.Post(m.cfg.timeouts())
	}
	exe, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("executable: %w", err)
	}
	m.store(supervisor.EntryExe, m.opts.Version, exe)
	_ = unix.Close(exe)

	b, err := wire.Marshal(storedConfig{Config: m.cfg, Sum: m.loader.sum[:], Resolved: m.sockets.Resolved})
	if err == nil {
		err = m.storeMemory(entryConfig, b)
	}
	if err == nil && m.desired == m.cfg.workers() {
		m.putCount(message.Put{Resized: m.resizeSeq}, m.desired, m.cfg.workers())
	}
	return err
}
