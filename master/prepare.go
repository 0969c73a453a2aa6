package master

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/spawn"
	"baton/master/internal/step"
	"baton/master/internal/supervisor"
	"baton/master/internal/watch"
	"baton/worker"
	workersock "baton/worker/sock"
	"baton/worker/wire"
)

// Entries of the registry that only masters look at.
const (
	entryConfig = "config" // the config of the last COMMIT, and the sum of its files
	entryPID    = "pidfile"

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
func (m *master) prepare() error {
	m.gen = m.welcome.Generation
	worker.SetTitle(worker.RoleMaster, m.gen)
	step.At(step.Welcomed)
	if m.welcome.Role == message.RoleRestart {
		return m.prepareRestart()
	}
	if err := m.load(); err != nil {
		return err
	}
	step.At(step.Loaded)
	if err := m.openAll(); err != nil {
		return err
	}
	step.At(step.Bound)
	for slot := range m.want {
		if err := m.startWorker(slot, 0); err != nil {
			return err
		}
	}
	step.At(step.Spawned)
	return nil
}

// prepareRestart: the workers serve, nothing is to be started.
func (m *master) prepareRestart() error {
	it, ok := m.inherited[entryConfig]
	if !ok {
		return fmt.Errorf("master: restart: the registry has no config")
	}
	b, err := spawn.ReadMemory(it.fd)
	if err != nil {
		return fmt.Errorf("master: restart: %w", err)
	}
	var sc storedConfig
	if err := wire.Unmarshal(b, &sc); err != nil {
		return fmt.Errorf("master: restart: config: %w", err)
	}
	m.cfg = sc.Config
	copy(m.sum[:], sc.Sum)
	m.sockets.Resolved = sc.Resolved
	m.chooseCount()
	return m.openAll()
}

// load reads the configuration, and the files once more if they have changed meanwhile.
func (m *master) load() error {
	for range 5 {
		cfg, err := m.loadConfig(context.Background())
		if err != nil {
			return err
		}
		if len(cfg.Listen) == 0 {
			return errNoListener
		}
		if err := cfg.check(); err != nil {
			return err
		}
		m.cfg = cfg
		if len(cfg.Watch) == 0 {
			break
		}
		m.sum, err = watch.Read(cfg.Watch)
		if err != nil {
			continue
		}
		if again, err := m.loadConfig(context.Background()); err == nil && sameJSON(again, cfg) {
			break
		}
	}
	if err := m.cfg.User.MayStart(); err != nil {
		return err
	}
	m.chooseCount()
	return m.supervisor.Post(m.timeouts())
}

func sameJSON(a, b any) bool {
	x, err1 := wire.Marshal(a)
	y, err2 := wire.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func (m *master) timeouts() message.Preparing {
	return message.Preparing{
		ReadyTimeout: int64(m.cfg.readyTimeout()), StopTimeout: int64(m.cfg.stopTimeout()), DrainTimeout: int64(m.cfg.drainTimeout()),
	}
}

// chooseCount keeps what somebody has asked for with resize, until the config says another number.
func (m *master) chooseCount() {
	m.want = m.cfg.workers()
	var sc message.Slots
	if it, ok := m.inherited[supervisor.EntryCount]; ok && json.Unmarshal([]byte(it.data), &sc) == nil && sc.Config == m.cfg.workers() {
		m.want = sc.Count
	}
}

// openAll opens what the configuration names: the log, the control socket, the listeners, the memory file for the workers.
func (m *master) openAll() error {
	for _, open := range []func() error{
		m.openLog, m.openControl, m.openListeners, m.checkPIDFile, m.openBalance, m.openTickets, m.openHeart,
	} {
		if err := open(); err != nil {
			return err
		}
	}
	fd, err := spawn.Memory("payload", m.cfg.Payload)
	if err != nil {
		return err
	}
	m.payload = fd
	return nil
}

// openBalance takes the memory in which the workers of all generations count what they accept, or makes it.
func (m *master) openBalance() (err error) {
	if it, ok := m.claim(entryBalance); ok && it.fd >= 0 {
		m.balance = it.fd
		return nil
	}
	if m.balance, err = workersock.NewBalance(MaxWorkers); err == nil {
		m.store(entryBalance, "", m.balance)
	}
	return err
}

// path is p as the user meant it, from where the user was.
func (m *master) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(m.dir, p)
}

// discard closes an inherited entry that is not used.
func (m *master) discard(name string) {
	if it, ok := m.claim(name); ok && it.fd >= 0 {
		_ = unix.Close(it.fd)
	}
}
