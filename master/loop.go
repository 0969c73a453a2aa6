package master

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/supervisor"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// loop owns the state from here on, until the process exits. It returns why this process has not become the master.
func (m *master) loop() error {
	go m.readSupervisor()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.checkReady()
		next := m.reconcile(monotime.Now())
		if m.phase.isOver() {
			return m.cause
		}
		setTimer(timer, next)
		select {
		case f := <-m.events:
			f()
		case <-m.children:
			m.reap()
		case <-timer.C:
		}
	}
}

// setTimer makes the timer fire at a time, or never if that is 0.
func setTimer(timer *time.Timer, at monotime.Time) {
	if at == 0 {
		timer.Stop()
		return
	}
	timer.Reset(at.Sub(monotime.Now()))
}

// reconcile does what must be done about the workers, and returns when to do so again if nothing happens before.
func (m *master) reconcile(now monotime.Time) (next monotime.Time) {
	m.measure(now)
	m.checkHeartbeats(now)
	next = m.carryOut(now)
	m.shareOut()
	if !m.phase.isMaster() {
		next = m.checkReadyTimeout()
	}
	m.checkEmpty()
	m.reportOldest()
	return monotime.Earliest(m.checkTickets(m.checkQueries(next)), m.measureAt, m.listenAt, m.checkSockets(now))
}

// carryOut does what the plan says until it says nothing more: only then does it know of the deadlines of what was done.
func (m *master) carryOut(now monotime.Time) (next monotime.Time) {
	for {
		todo, next := m.plan(now)
		m.tellTakers() // before a worker drains that somebody may be giving connections to
		if len(todo) == 0 {
			return next
		}
		for _, a := range todo {
			m.apply(a)
		}
	}
}

// plan returns what must be done about the workers, and when to ask again; nothing before COMMIT.
func (m *master) plan(now monotime.Time) (todo []plan.Action, next monotime.Time) {
	if !m.phase.isMaster() || !m.workersKnown() {
		return nil, 0
	}
	return m.snapshot(now).Plan()
}

func (m *master) snapshot(now monotime.Time) plan.View {
	v := plan.View{
		Now: now, Generation: m.gen, Slots: m.want, StopAt: m.stopAt, Reloading: m.upgrading != "" || !m.phase.isAlone(),
		DrainTimeout: m.cfg.drainTimeout(), ReadyTimeout: m.cfg.readyTimeout(), MaxAge: m.cfg.MaxAge,
		DrainFrom: m.drainFrom(), MaxGenerations: m.cfg.maxGenerations(), Crashes: m.crashes, Recycling: m.recycling,
	}
	for _, p := range m.procs {
		v.Workers = append(v.Workers, p.Worker)
	}
	return v
}

// workersKnown is false while a restarted master has not been told which workers there are.
func (m *master) workersKnown() bool {
	return m.phase.isAlone() || m.welcome.Role != message.RoleRestart
}

// checkEmpty ends a stopping master when no worker is left.
func (m *master) checkEmpty() {
	if len(m.procs) == 0 {
		m.enter(eventEmpty)
	}
}

// readSupervisor turns what the supervisor says into events.
func (m *master) readSupervisor() {
	for {
		p, err := m.supervisor.Recv()
		switch {
		case errors.Is(err, seqpacket.ErrCut):
			m.send(func() { m.outOfFiles(err) })
		case err != nil:
			m.send(m.onHungUp)
			return
		default:
			m.send(func() { m.onSupervisor(&p) })
		}
	}
}

func (m *master) onSupervisor(p *seqpacket.Packet) {
	defer p.Close()
	if err := m.handleSupervisor(p); err != nil {
		m.log.Error("master: message of the supervisor", "kind", p.Frame.T, "error", err)
	}
}

// handleSupervisor obeys one message. What it does not know is dropped: it may be a newer release's.
func (m *master) handleSupervisor(p *seqpacket.Packet) error {
	f := p.Frame
	switch f.T {
	case message.Committed{}.Kind():
		return wire.On(f, m.onCommitted)
	case message.Refused{}.Kind():
		return wire.On(f, m.onRefused)
	case message.Superseded{}.Kind():
		m.enter(eventSuperseded)
	case message.TakeoverComplete{}.Kind():
		m.forgetWorkers()
	case message.Item{}.Kind():
		m.addInherited(p)
	case message.End{}.Kind():
		m.onComplete()
	case message.Reload{}.Kind():
		return wire.On(f, func(r message.Reload) { m.startUpgrade(r.Attempt) })
	case message.StatusRequest{}.Kind():
		return wire.On(f, m.ask)
	case message.Exited{}.Kind():
		return wire.On(f, m.onExited)
	case message.Stop{}.Kind():
		return wire.On(f, m.onStop)
	case message.Resize{}.Kind():
		return wire.On(f, m.onResize)
	case message.Reopen{}.Kind():
		m.reopenLog()
		_ = m.supervisor.Post(message.Reopened{})
	case message.Compare{}.Kind():
		return wire.On(f, m.compare)
	}
	return nil
}

func (m *master) onExited(e message.Exited) {
	if p, ok := m.procs[e.PID]; ok && !p.own && !p.reaped {
		m.dead(p, unix.WaitStatus(e.Status))
	}
}

// end is the last act of a process that was the master.
func (m *master) end() {
	m.letWorkersGo()
	if m.phase == phaseStopped && m.supervisor.HungUp() { // else it does it
		m.removePaths()
	}
}

// letWorkersGo ends the reading of the workers' control sockets, so that the next master misses nothing, and tells the
// supervisor. The exit itself may take much longer: the kernel waits when a change notification is closed.
func (m *master) letWorkersGo() {
	if m.phase == phaseStopped {
		return
	}
	for _, p := range m.procs {
		if !p.eof {
			p.conn.StopReading()
		}
	}
	for _, p := range m.procs {
		for !p.eof {
			(<-m.events)()
		}
	}
	_ = m.supervisor.Post(message.Leaving{})
}

// adoptAll takes over the workers of the registry that are not ours.
func (m *master) adoptAll() {
	for name, it := range m.inherited {
		pid := supervisor.WorkerPID(name)
		if pid == 0 {
			continue
		}
		delete(m.inherited, name)
		if _, ours := m.procs[pid]; ours || m.buried[pid] || it.fd < 0 {
			_ = unix.Close(it.fd)
			continue
		}
		m.adopt(pid, it.data, it.fd)
	}
	m.buried = nil
	m.forgetReplaced()
}

// forgetWorkers drops what the welcome said of the workers: newer words follow.
func (m *master) forgetWorkers() {
	for name, it := range m.inherited {
		if supervisor.WorkerPID(name) != 0 {
			_ = unix.Close(it.fd)
			delete(m.inherited, name)
		}
	}
}
