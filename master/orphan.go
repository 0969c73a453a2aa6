package master

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
			fd, err := m.sys.handle(p.PID)
			if err != nil {
				continue // it has just ended: end-of-file follows
			}
			p.handle = fd
		}
	}
}

// killAdopted kills a worker that is not our child, and whose parent is not the supervisor any more.
func (m *master) killAdopted(p *proc) {
	if p.handle != 0 {
		m.sys.killHandle(p.handle)
	}
}
