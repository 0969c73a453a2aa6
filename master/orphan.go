package master

import (
	"errors"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
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
	m.removePaths()
	if m.stopping {
		return
	}
	m.log.Error("master: the keeper is gone, stopping everything")
	m.stop(wire.Stop{Deadline: int64(monotime.Now().Add(m.cfg.stopTimeout()))})
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
			fd, err := unix.PidfdOpen(p.PID, 0)
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
