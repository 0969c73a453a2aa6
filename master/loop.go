package master

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/step"
	"baton/master/keeper"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// loop owns the state from here on, until the process is to end.
func (m *master) loop() int {
	go m.readKeeper()
	timer := time.NewTimer(0)
	timer.Stop()
	m.maybeCommit()
	for !m.over && m.failed == nil {
		setTimer(timer, m.reconcile(monotime.Now()))
		if m.over || m.failed != nil {
			break
		}
		select {
		case p := <-m.packets:
			m.onKeeper(p)
		case ev := <-m.workers:
			m.onWorker(ev)
		case f := <-m.calls:
			f()
		case <-m.signals:
			m.reap()
		case err := <-m.upgrade:
			m.onUpgrade(err)
		case <-timer.C:
		}
		m.maybeCommit()
	}
	if m.failed != nil {
		return m.giveUp(m.failed)
	}
	return m.end()
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
	if !m.committed {
		next = m.checkReadyTimeout()
	}
	m.checkEmpty()
	m.reportOldest()
	return monotime.Earliest(m.checkTickets(m.checkQueries(next)), m.measureAt, m.listenAt,
		m.checkRelisten(now), m.closeQuiet(now))
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
	if !m.committed || !m.workersKnown() {
		return nil, 0
	}
	return m.snapshot(now).Plan()
}

func (m *master) snapshot(now monotime.Time) plan.View {
	v := plan.View{
		Now: now, Generation: m.gen, Slots: m.want, StopAt: m.stopAt, Reloading: m.upgrading != "" || !m.known,
		DrainTimeout: m.cfg.drainTimeout(), ReadyTimeout: m.cfg.readyTimeout(), MaxAge: m.cfg.MaxAge,
		DrainFrom: m.drainFrom(), MaxGenerations: m.cfg.maxGenerations(), Crashes: m.crashes, Recycling: m.recycling,
	}
	for _, p := range m.procs {
		v.Workers = append(v.Workers, p.Worker)
	}
	return v
}

// workersKnown is false while a restarted master has not been told which workers there are.
func (m *master) workersKnown() bool { return m.known || m.welcome.Role != wire.RoleRestart }

// failure ends a master that has not taken over.
func (m *master) failure(err error) {
	if m.failed == nil {
		m.failed = err
	}
}

// checkEmpty ends a stopping master when no worker is left.
func (m *master) checkEmpty() {
	if m.stopping && m.workersKnown() && len(m.procs) == 0 {
		m.over = true
	}
}

// readKeeper turns what the keeper says into events.
func (m *master) readKeeper() {
	for {
		p, err := m.keeper.Recv()
		if errors.Is(err, seqpacket.ErrCut) {
			m.calls <- func() { m.outOfFiles(err) }
			continue
		}
		if err != nil {
			m.packets <- nil
			return
		}
		m.packets <- &p
	}
}

// outOfFiles: something that the keeper has given us is lost, and so maybe a worker that nobody would tell to drain.
// Before COMMIT that is a failure; after it the next master is to have all of it, as if this one had crashed.
func (m *master) outOfFiles(err error) {
	if !m.committed {
		m.failure(fmt.Errorf("master: %w", err))
		return
	}
	m.log.Error("master: too few descriptors, the next master is to take over", "error", err)
	m.sink.Flush(flushLimit)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}

func (m *master) onKeeper(p *seqpacket.Packet) {
	if p == nil {
		m.keeperGone()
		return
	}
	defer p.Close()
	if err := m.handleKeeper(p); err != nil {
		m.log.Error("master: message of the keeper", "kind", p.Frame.T, "error", err)
	}
}

// handleKeeper obeys one message. What it does not know is dropped: it may be a newer release's.
func (m *master) handleKeeper(p *seqpacket.Packet) error {
	f := p.Frame
	switch f.T {
	case wire.Committed{}.Kind():
		return wire.On(f, m.onCommitted)
	case wire.Refused{}.Kind():
		return wire.On(f, func(r wire.Refused) { m.failure(errors.New("master: COMMIT refused: " + r.Error)) })
	case wire.Superseded{}.Kind():
		m.over = true
	case wire.Alone{}.Kind():
		m.forgetWorkers()
	case wire.Item{}.Kind():
		m.addInherited(p)
	case wire.End{}.Kind():
		m.onAlone()
	case wire.Reload{}.Kind():
		return wire.On(f, func(r wire.Reload) { m.startUpgrade(r.Attempt) })
	case wire.StatusRequest{}.Kind():
		return wire.On(f, m.ask)
	case wire.Exited{}.Kind():
		return wire.On(f, m.onExited)
	case wire.Stop{}.Kind():
		return wire.On(f, m.stop)
	case wire.Resize{}.Kind():
		return wire.On(f, m.onResize)
	case wire.Reopen{}.Kind():
		m.reopenLog()
		_ = m.keeper.Post(wire.Reopened{})
	case wire.Compare{}.Kind():
		return wire.On(f, m.compare)
	}
	return nil
}

func (m *master) onExited(e wire.Exited) {
	if p, ok := m.procs[e.PID]; ok && !p.own && !p.reaped {
		m.dead(p, syscall.WaitStatus(e.Status))
	}
}

// stop drains everything, up to the deadline that the keeper has set.
func (m *master) stop(s wire.Stop) {
	if !m.committed {
		m.failure(errors.New("master: stopping"))
		return
	}
	if m.stopping && monotime.Time(s.Deadline) >= m.stopAt {
		return
	}
	m.stopping = true
	m.stopAt = monotime.Time(s.Deadline)
	if m.stopWatch != nil {
		m.stopWatch()
	}
	m.closeListeners()
}

// end is a master's last act.
func (m *master) end() int {
	m.letWorkersGo()
	if m.stopping && m.keeper.HungUp() { // else it does it
		m.removePaths()
	}
	m.keeper.Flush()
	return exitOK
}

// letWorkersGo ends the reading of the workers' control sockets, so that the next master misses nothing, and tells the
// keeper. The exit itself may take much longer: the kernel waits when a change notification is closed.
func (m *master) letWorkersGo() {
	if m.stopping {
		return
	}
	reading := 0
	for _, p := range m.procs {
		if !p.eof && p.conn != nil {
			p.conn.StopReading()
			reading++
		}
	}
	for reading > 0 {
		ev := <-m.workers
		if ev.packet == nil {
			reading--
			continue
		}
		m.onWorker(ev)
	}
	_ = m.keeper.Post(wire.Left{})
}

// onAlone: no predecessor is left. Its workers are ours, and drain.
func (m *master) onAlone() {
	if m.orphaned {
		return
	}
	m.adoptAll()
	m.recallCounts()
	m.dropHearts()
	m.shareExtra()
	if m.welcome.Role == wire.RoleRestart {
		m.tellListening()
		m.takersBy = monotime.Now().Add(takersWait)
	}
	m.startWatch()
	m.log.Info("generation serves", "generation", m.gen, "version", m.opts.Version, "workers", m.want)
	step.At(step.Alone)
}

// adoptAll takes over the workers of the store that are not ours.
func (m *master) adoptAll() {
	for name, it := range m.inherited {
		pid := keeper.WorkerPID(name)
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
		if keeper.WorkerPID(name) != 0 {
			_ = unix.Close(it.fd)
			delete(m.inherited, name)
		}
	}
}
