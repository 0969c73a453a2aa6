package master

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"baton/master/internal/sockets"
	"baton/master/internal/spawn"
	"baton/master/internal/step"
	"baton/master/internal/watch"
	"baton/master/keeper"
	"baton/worker"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// Entries of the store that only masters look at.
const (
	entryConfig = "config" // the config of the last COMMIT, and the sum of its files
	entryPID    = "pidfile"
	entryGive   = "handover/give"
	entryTake   = "handover/take"
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
	Resolved map[string]string // see master.resolve
}

// prepare does everything that can fail, and nothing that anybody notices. What it puts into the store is staged.
func (m *master) prepare() error {
	m.gen, m.results = m.welcome.Generation, m.welcome.Results
	worker.SetTitle(worker.RoleMaster, m.gen)
	step.At(step.Welcomed)
	if m.welcome.Role == wire.RoleRestart {
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
	it, ok := m.items[entryConfig]
	if !ok {
		return fmt.Errorf("master: restart: the store has no config")
	}
	b, err := spawn.ReadMemory(it.fd)
	if err != nil {
		return fmt.Errorf("master: restart: %w", err)
	}
	var sc storedConfig
	if err := json.Unmarshal(b, &sc); err != nil {
		return fmt.Errorf("master: restart: config: %w", err)
	}
	m.cfg = sc.Config
	copy(m.sum[:], sc.Sum)
	if sc.Resolved != nil {
		m.resolved = sc.Resolved
	}
	m.chooseCount()
	return m.openAll()
}

// load reads the configuration, and the files once more if they have changed meanwhile.
func (m *master) load() error {
	for range 5 {
		cfg, err := m.opts.Load(context.Background())
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
		if again, err := m.opts.Load(context.Background()); err == nil && sameJSON(again, cfg) {
			break
		}
	}
	if err := m.cfg.User.MayStart(); err != nil {
		return err
	}
	m.chooseCount()
	return m.keeper.Post(m.timeouts())
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func (m *master) timeouts() wire.Preparing {
	return wire.Preparing{
		ReadyTimeout: int64(m.cfg.readyTimeout()), StopTimeout: int64(m.cfg.stopTimeout()), DrainTimeout: int64(m.cfg.drainTimeout()),
	}
}

// chooseCount keeps what somebody has asked for with resize, until the config says another number.
func (m *master) chooseCount() {
	m.want = m.cfg.workers()
	var sc wire.Slots
	if it, ok := m.items[keeper.EntryCount]; ok && json.Unmarshal([]byte(it.data), &sc) == nil && sc.Config == m.cfg.workers() {
		m.want = sc.Count
	}
}

// openAll opens what the configuration names: the log, the control socket, the listeners, the memory file for the workers.
func (m *master) openAll() error {
	for _, open := range []func() error{m.openLog, m.openControl, m.openListeners, m.openPIDFile, m.openQueue, m.openTickets, m.openHeart} {
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

// openQueue takes the hand-over queue, or makes it: one for all workers of all generations.
func (m *master) openQueue() error {
	give, ok1 := m.take(entryGive)
	take, ok2 := m.take(entryTake)
	if ok1 && ok2 {
		m.queue = [2]int{give.fd, take.fd}
		return nil
	}
	a, b, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("hand-over queue: %w", err)
	}
	m.queue = [2]int{a, b}
	m.store(entryGive, "", a)
	m.store(entryTake, "", b)
	return nil
}

// openLog opens the log file. A successor's own words go there after COMMIT.
func (m *master) openLog() error {
	if m.cfg.LogFile != "" {
		fd, err := logsink.Open(m.path(m.cfg.LogFile))
		if it, ok := m.items[keeper.EntryLog]; err != nil && ok && m.welcome.Role == wire.RoleRestart {
			delete(m.items, keeper.EntryLog)
			fd, err = it.fd, nil // what is open stays so; a restart needs no file
		}
		if err != nil {
			return err
		}
		m.logFD = fd
	}
	return nil
}

// startLogging begins to write where the config says.
func (m *master) startLogging() {
	m.log = logsink.Logger(m.sink, m.cfg.LogFormat)
	_ = m.keeper.Post(wire.Drop{Name: keeper.EntryLog})
	m.store(keeper.EntryLog, m.cfg.LogFormat, m.logFD)
	if m.logFD < 0 {
		return
	}
	if fd, err := seqpacket.Dup(m.logFD); err == nil {
		m.sink.SetFD(fd)
	}
}

// path is p as the user meant it, from where the user was.
func (m *master) path(p string) string {
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(m.dir, p)
}

// forget closes an inherited entry that is not used.
func (m *master) forget(name string) {
	if it, ok := m.take(name); ok && it.fd >= 0 {
		_ = unix.Close(it.fd)
	}
}

// openPIDFile writes the keeper's PID. The keeper removes the file in the end.
func (m *master) openPIDFile() error {
	old, had := m.take(entryPID)
	if m.cfg.PIDFile == "" {
		if had {
			_ = m.keeper.Post(wire.Drop{Name: entryPID})
		}
		return nil
	}
	path := m.path(m.cfg.PIDFile)
	if had && old.data == path {
		return nil
	}
	if err := writeFile(path, strconv.Itoa(m.welcome.KeeperPID)+"\n"); err != nil {
		return fmt.Errorf("pid file: %w", err)
	}
	if had {
		_ = m.keeper.Post(wire.Drop{Name: entryPID})
	}
	m.put(wire.Put{Name: entryPID, Unlink: path}, path, -1)
	return nil
}

// writeFile replaces a file in one step. In a folder that others may write to, it follows no link of theirs: the new file
// has a name that nobody had before, and a rename replaces a link.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// openControl takes over the control socket, or makes it.
func (m *master) openControl() error {
	it, had := m.items[keeper.EntryControl]
	if m.cfg.Control == "" {
		if had {
			_ = m.keeper.Post(wire.Drop{Name: keeper.EntryControl})
			m.forget(keeper.EntryControl)
		}
		return nil
	}
	path := m.path(m.cfg.Control)
	m.cfg.Control = path
	if had && it.data == path {
		return nil
	}
	addr, err := sockets.Resolve("unix:"+path, "tcp", "/")
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	fd, err := sockets.Bind(addr, 0o600)
	if err != nil {
		return fmt.Errorf("control socket: %w%s", err, whoRuns(path, err))
	}
	m.forget(keeper.EntryControl)
	m.put(wire.Put{Name: keeper.EntryControl, Unlink: path}, path, fd)
	m.items[keeper.EntryControl] = inherited{data: path, fd: fd}
	return nil
}
