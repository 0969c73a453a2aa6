package master

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/supervisor"
	"baton/worker/ownfile"
	"baton/worker/wire"
)

// The files that this program makes are the Unix sockets, the control socket, the PID file and the log file. What
// somebody has removed is made anew by the next reload; what somebody else has put in its place is neither overwritten
// nor removed. What an attempt has made goes with it.

// files are those that a master has besides the listening sockets and the log; each is zero if there is none.
type files struct{ control, pid wire.Path }

// file is the one that an entry of the registry is about.
func (e entry) file() (f wire.Path) {
	_ = wire.Unmarshal([]byte(e.data), &f)
	return f
}

// openControl takes over the control socket at path, or makes it. The supervisor answers there. A restarted master
// changes nothing, even if the file is gone.
func (f *files) openControl(r *registry, path string, restart bool) error {
	e, had := r.claim(supervisor.EntryControl)
	defer e.close()
	if path == "" {
		if had {
			r.drop(supervisor.EntryControl)
		}
		return nil
	}
	if f.control = e.file(); had && f.control.Path == path && (restart || ownfile.Is(f.control)) {
		return nil
	}
	fd, err := listen.Unix(path, 0o600)
	if err != nil {
		return fmt.Errorf("control socket: %w", runningInstance(path, err))
	}
	f.control, _ = ownfile.At(path)
	r.put(message.Put{Name: supervisor.EntryControl, Unlink: f.control}, f.control, fd)
	return unix.Close(fd)
}

// openPID takes over the PID file at path, and fails if it could not be written after COMMIT.
func (f *files) openPID(r *registry, path string, pid int, restart bool) error {
	e, had := r.claim(entryPID)
	e.close()
	switch {
	case had && e.file().Path == path:
		f.pid = e.file()
	case had:
		r.drop(entryPID)
	}
	if path == "" || restart {
		return nil
	}
	return checkPIDFile(path, pid, f.pid)
}

// writePID writes the supervisor's PID, unless it is there. The supervisor removes the file in the end.
func (f *files) writePID(r *registry, path string, pid int) error {
	if path == "" || ownfile.Is(f.pid) {
		return nil
	}
	fd, made, err := writePIDFile(path, pid, f.pid)
	if err != nil {
		return err
	}
	f.pid = made
	r.put(message.Put{Name: entryPID, Unlink: made}, made, fd)
	return unix.Close(fd)
}

// openFiles opens the log, the control socket and the PID file.
func (m *master) openFiles() error {
	restart := m.welcome.Role == message.RoleRestart
	if err := m.openLog(&m.registry, m.path(m.cfg.LogFile), m.cfg.logStyle(), restart); err != nil {
		return err
	}
	if err := m.files.openControl(&m.registry, m.path(m.cfg.Control), restart); err != nil {
		return err
	}
	return m.files.openPID(&m.registry, m.path(m.cfg.PIDFile), m.welcome.SupervisorPID, restart)
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

// missing names the files that are not what this program has made any more.
func missing(files []wire.Path) []string {
	var all []string
	for _, f := range files {
		if !ownfile.Is(f) {
			all = append(all, f.Path+
				": somebody has removed or replaced this file; a reload makes it anew, unless another one is there")
		}
	}
	return all
}

// removePaths removes what the supervisor would have removed: of a process that was about to be the master what it has
// made, of a master, also of one that was restarted, everything.
func (m *master) removePaths() {
	all := m.createdPaths
	if m.phase.isMaster() || m.welcome.Role == message.RoleRestart {
		all = m.paths()
	}
	for _, f := range all {
		ownfile.Remove(f)
	}
}
