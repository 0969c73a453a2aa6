package master

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/supervisor"
	"baton/worker/logsink"
	"baton/worker/ownfile"
	"baton/worker/rawfd"
	"baton/worker/wire"
)

// The files that this program makes are the Unix sockets, the control socket, the PID file and the log file. What somebody
// has removed is made anew by the next reload; what somebody else has put in its place is neither overwritten nor removed.
// What an attempt has made goes with it.

// files are those that a master has besides the listening sockets; each is zero if there is none.
type files struct{ control, pid wire.Path }

// stands reports whether a file of the registry can stay: it is at its path, or its master is dead and this one changes
// nothing.
func (m *master) stands(f wire.Path) bool {
	return m.welcome.Role == message.RoleRestart || ownfile.Is(f)
}

// file is the one that an entry of the registry is about.
func (it entry) file() (f wire.Path) {
	_ = wire.Unmarshal([]byte(it.data), &f)
	return f
}

// openControl takes over the control socket, or makes it.
func (m *master) openControl() error {
	it, had := m.inherited[supervisor.EntryControl]
	if m.cfg.Control == "" {
		if had {
			_ = m.supervisor.Post(message.Drop{Name: supervisor.EntryControl})
			m.discard(supervisor.EntryControl)
		}
		return nil
	}
	path := m.path(m.cfg.Control)
	m.cfg.Control = path
	m.discard(supervisor.EntryControl) // the supervisor has it, and answers there
	if m.files.control = it.file(); had && m.files.control.Path == path && m.stands(m.files.control) {
		return nil
	}
	fd, err := listen.Unix(path, 0o600)
	if err != nil {
		return fmt.Errorf("control socket: %w", runningInstance(path, err))
	}
	m.files.control, _ = ownfile.At(path)
	m.put(message.Put{Name: supervisor.EntryControl, Unlink: m.files.control}, m.files.control, fd)
	return unix.Close(fd)
}

// openLog opens the log file. What is said before COMMIT goes to the predecessor's.
func (m *master) openLog() error {
	if m.cfg.LogFile == "" {
		return nil
	}
	path := m.path(m.cfg.LogFile)
	fd, made, err := logsink.Create(path)
	if it, ok := m.inherited[supervisor.EntryLog]; err != nil && ok && m.welcome.Role == message.RoleRestart {
		delete(m.inherited, supervisor.EntryLog)
		fd, err = it.fd, nil // what is open stays so; a restart needs no file
	}
	if err != nil {
		return err
	}
	m.logFD = fd
	if made {
		f, _ := ownfile.Of(fd, path)
		m.put(message.Put{Name: supervisor.EntryLog, Undo: f}, m.cfg.LogFormat, fd)
	}
	return nil
}

// startLogging begins to write where the config says, with the workers of this generation.
func (m *master) startLogging() {
	m.log = logsink.Logger(m.sink, m.cfg.LogFormat)
	if m.logFD < 0 {
		_ = m.supervisor.Post(message.Drop{Name: supervisor.EntryLog})
	}
	m.store(supervisor.EntryLog, m.cfg.LogFormat, m.logFD)
	fd := m.logFD
	if fd >= 0 {
		if fd, err := rawfd.Dup(fd); err == nil {
			m.sink.SetFD(fd)
		}
	} else if m.workerLog() >= 0 {
		fd = 2
	}
	m.discard(supervisor.EntryLog)
	m.giveLog(fd, func(p *proc) bool { return p.Generation == m.gen })
}

// giveLog tells workers to write to fd, unless that is -1.
func (m *master) giveLog(fd int, to func(*proc) bool) {
	for _, p := range m.procs {
		if fd >= 0 && to(p) {
			_ = p.conn.Post(wire.LogFile{}, fd)
		}
	}
}

// workerLog is what a worker writes to; -1 is standard error, which it has. Before COMMIT that is what the predecessor
// writes to: a log file that an attempt has made goes with the attempt, and not with the reason of its failure.
func (m *master) workerLog() int {
	if m.phase.isMaster() && m.logFD >= 0 {
		return m.logFD
	}
	if it, ok := m.inherited[supervisor.EntryLog]; ok {
		return it.fd
	}
	return -1
}

// reopenLog opens the log file anew, here and in every worker.
func (m *master) reopenLog() {
	if m.cfg.LogFile == "" {
		return
	}
	fd, err := logsink.Open(m.path(m.cfg.LogFile))
	if err != nil {
		m.log.Error("master: reopen", "error", err)
		return
	}
	_ = unix.Close(m.logFD)
	m.logFD = fd
	m.startLogging()
	m.giveLog(fd, func(p *proc) bool { return p.Generation != m.gen })
}

// checkPIDFile fails if the PID file could not be written after COMMIT.
func (m *master) checkPIDFile() error {
	it, had := m.inherited[entryPID]
	m.discard(entryPID)
	if m.cfg.PIDFile == "" || had && it.file().Path != m.path(m.cfg.PIDFile) {
		if had {
			_ = m.supervisor.Post(message.Drop{Name: entryPID})
		}
		had = false
	}
	if had {
		m.files.pid = it.file()
	}
	if m.cfg.PIDFile == "" || m.welcome.Role == message.RoleRestart {
		return nil
	}
	return checkPIDFile(m.path(m.cfg.PIDFile), m.welcome.SupervisorPID, m.files.pid)
}

// writePIDFile writes the supervisor's PID, unless it is there. The supervisor removes the file in the end.
func (m *master) writePIDFile() {
	if m.cfg.PIDFile == "" || ownfile.Is(m.files.pid) {
		return
	}
	fd, f, err := writePIDFile(m.path(m.cfg.PIDFile), m.welcome.SupervisorPID, m.files.pid)
	if err != nil {
		m.warn(err.Error())
		return
	}
	m.files.pid = f
	m.put(message.Put{Name: entryPID, Unlink: f}, f, fd)
	_ = unix.Close(fd)
}

// paths are all files that go in the end, but for those of sockets that systemd has as well.
func (m *master) paths() []wire.Path {
	var all []wire.Path
	if !m.welcome.FDStore {
		all = m.sockets.Files()
	}
	all = append(all, m.files.control, m.files.pid)
	return slices.DeleteFunc(all, func(f wire.Path) bool { return f == wire.Path{} })
}

// missingFiles names those that are not what this program has made any more.
func (m *master) missingFiles() []string {
	var all []string
	for _, f := range m.paths() {
		if !m.phase.isStopping() && !ownfile.Is(f) {
			all = append(all, f.Path+": somebody has removed or replaced this file; a reload makes it anew, unless another one is there")
		}
	}
	return all
}

// missingLines says what did not get into the log.
func (m *master) missingLines() []string {
	n, why := m.sink.Missing()
	for _, p := range m.procs {
		n += p.stats.LogLost
		why = cmp.Or(why, p.stats.LogError)
	}
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("log: %d lines of the running processes are lost: %s", n, cmp.Or(why, "nobody reads it"))}
}

// removePaths removes what the supervisor would have removed: of a process that was about to be the master what it has made,
// of a master, also of one that was restarted, everything.
func (m *master) removePaths() {
	all := m.createdPaths
	if m.phase.isMaster() || m.welcome.Role == message.RoleRestart {
		all = m.paths()
	}
	for _, f := range all {
		ownfile.Remove(f)
	}
}
