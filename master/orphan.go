package master

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"baton/worker/wire"
)

// keeperGone: the process that the user started is dead, so everything ends, by itself and gracefully. Nobody else
// removes the paths of Unix sockets then, and nobody says any more which adopted worker has ended.
func (m *master) keeperGone() {
	m.orphaned = true
	if !m.committed {
		m.failure(errors.New("master: the keeper is gone"))
		return
	}
	if !m.known { // the predecessor is about to go, or has gone: who is left is in the store, as it was last sent
		m.adoptAll()
		m.known = true
	}
	m.trackAdopted()
	if m.stopping {
		return
	}
	m.log.Error("master: the keeper is gone, stopping everything")
	m.removePaths()
	m.stop(wire.Stop{Deadline: int64(monotonic().add(m.cfg.stopTimeout()))})
}

// trackAdopted looks after the workers that are not our children by ourselves. Whoever is their parent now may reap them at
// any time, so a number alone names none of them. A pidfd does: while its socket has not ended, the worker was alive when
// the pidfd was opened.
func (m *master) trackAdopted() {
	for _, p := range m.procs {
		switch {
		case p.own || p.reaped:
		case p.eof:
			m.gone(p)
		default:
			fd, err := unix.PidfdOpen(p.pid, 0)
			if err != nil {
				continue // it has just ended: end-of-file follows
			}
			p.handle = fd
		}
	}
}

// killAdopted kills a worker that is not our child, and whose parent is not the keeper any more.
func (m *master) killAdopted(p *proc) {
	if p.handle != 0 {
		_ = unix.PidfdSendSignal(p.handle, unix.SIGKILL, nil, 0)
	}
}

// removePaths removes what the keeper would have removed: of a process that was about to be the master what it has made,
// of a master, also of one that was restarted, everything.
func (m *master) removePaths() {
	paths := m.made
	if m.committed || m.welcome.Role == wire.RoleRestart {
		paths = m.paths()
	}
	for _, p := range paths {
		_ = os.Remove(p)
	}
}

// paths are all that there are in the file system while this master serves, but for the sockets that systemd has as well.
func (m *master) paths() []string {
	var all []string
	for _, s := range m.sockets {
		if s.Passed != "" || m.welcome.Stores {
			continue
		}
		if path, ok := strings.CutPrefix(s.key, "unix/"); ok {
			all = append(all, path)
		}
	}
	if m.cfg.Control != "" {
		all = append(all, m.path(m.cfg.Control))
	}
	if m.cfg.PIDFile != "" {
		all = append(all, m.path(m.cfg.PIDFile))
	}
	return all
}

// pathIDs are the paths as they are now, for workers: if keeper and master die together, nobody else is left who could
// remove them.
func (m *master) pathIDs() []wire.Path {
	var all []wire.Path
	for _, p := range m.paths() {
		var st unix.Stat_t
		if unix.Lstat(p, &st) == nil {
			all = append(all, wire.Path{Path: p, Dev: int64(st.Dev), Ino: int64(st.Ino)})
		}
	}
	return all
}
