package master

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"baton/master/internal/failpoint"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/supervisor"
)

// phase is how far this process has come in being the master. The table [takeover] says what leads from one to another.
type phase uint8

const (
	phaseNone       phase = iota // in the table: nothing happens
	phasePreparing               // loads, binds, starts workers, and waits until all of them are READY
	phaseAsking                  // has asked for COMMIT
	phaseCommitted               // is the master; its predecessor may still be there
	phaseLeaving                 // stops everything; its predecessor may still be there
	phaseCurrent                 // is the only master, and knows all workers
	phaseStopping                // stops everything
	phaseOrphaned                // stops everything, and the supervisor is dead
	phaseStopped                 // exits: no worker is left
	phaseSuperseded              // exits: another process is the master
	phaseFailed                  // exits: it has not become the master
)

// event is what may move a master to another phase.
type event uint8

const (
	eventReady      event = iota // all workers are READY
	eventCommitted               // COMMIT
	eventRefused                 // no COMMIT
	eventComplete                // no predecessor is left, and the registry's workers were told
	eventSuperseded              // COMMIT, of the successor
	eventStop                    // the supervisor wants everything to end
	eventHungUp                  // end-of-file: the supervisor is dead
	eventUnready                 // a worker has exited before it was READY, or was not READY in time
	eventTrouble                 // this process cannot go on
	eventEmpty                   // no worker is left
	eventRequest                 // a reload, a resize, a comparison
)

// takeover says to which phase an event leads. Where it leads nowhere nothing happens; a request is refused then.
var takeover = map[phase]map[event]phase{
	phasePreparing: {
		eventReady: phaseAsking, eventRefused: phaseFailed, eventStop: phaseFailed, eventHungUp: phaseFailed,
		eventUnready: phaseFailed, eventTrouble: phaseFailed,
	},
	phaseAsking: { // a worker that exits has crashed, for COMMIT may have come about
		eventCommitted: phaseCommitted, eventRefused: phaseFailed, eventStop: phaseFailed, eventHungUp: phaseFailed,
		eventTrouble: phaseFailed,
	},
	phaseCommitted: {
		eventComplete: phaseCurrent, eventSuperseded: phaseSuperseded, eventStop: phaseLeaving,
		eventHungUp: phaseOrphaned, eventRequest: phaseCommitted,
	},
	phaseLeaving: { // another stop is an earlier deadline
		eventComplete: phaseStopping, eventStop: phaseLeaving, eventHungUp: phaseOrphaned,
	},
	phaseCurrent: {
		eventSuperseded: phaseSuperseded, eventStop: phaseStopping, eventHungUp: phaseOrphaned,
		eventRequest: phaseCurrent,
	},
	phaseStopping:   {eventStop: phaseStopping, eventHungUp: phaseOrphaned, eventEmpty: phaseStopped},
	phaseOrphaned:   {eventEmpty: phaseStopped},
	phaseStopped:    {},
	phaseSuperseded: {},
	phaseFailed:     {},
}

// isMaster reports whether COMMIT has come about.
func (p phase) isMaster() bool { return p >= phaseCommitted && p != phaseFailed }

// isAlone reports whether no predecessor is left, and all workers are known.
func (p phase) isAlone() bool { return p >= phaseCurrent && p != phaseFailed }

// isStopping reports whether everything ends.
func (p phase) isStopping() bool {
	return p == phaseLeaving || p == phaseStopping || p == phaseOrphaned || p == phaseStopped
}

// isOver reports whether the process exits.
func (p phase) isOver() bool { return p >= phaseStopped }

// progress is how far a master has come.
type progress struct {
	phase  phase
	cause  error         // in phaseFailed
	stopAt monotime.Time // the deadline of a stop; 0 before one
}

// enter goes to the phase that an event leads to, and reports whether there is one.
func (p *progress) enter(e event) bool {
	next := takeover[p.phase][e]
	if next != phaseNone {
		p.phase = next
	}
	return next != phaseNone
}

// fails is enter for what ends a master that is none yet, and reports whether it does so. err is what it exits with.
func (p *progress) fails(e event, err error) bool {
	if p.phase.isMaster() || !p.enter(e) {
		return false
	}
	p.cause = err
	return true
}

// checkReady asks for COMMIT when every worker is READY. A restarted master has nothing to wait for.
func (m *master) checkReady() {
	for _, p := range m.procs {
		if p.State != plan.Ready {
			return
		}
	}
	if !m.enter(eventReady) {
		return
	}
	failpoint.Hit(failpoint.Ready)
	err := m.stage()
	if err == nil {
		err = m.supervisor.Post(message.Commit{Seen: m.welcome.Seen})
	}
	if err != nil {
		m.fails(eventTrouble, fmt.Errorf("master: commit: %w", err))
	}
}

// onCommitted makes this process the master. Its workers may accept; then comes what nobody waits for.
func (m *master) onCommitted(c message.Committed) {
	if !m.enter(eventCommitted) {
		return
	}
	failpoint.Hit(failpoint.Committed)
	m.gen = c.Generation
	if m.welcome.Role != message.RoleRestart {
		m.crashes.Committed = monotime.Now()
	}
	m.sockets.Listen()
	if err := m.files.writePID(&m.registry, m.path(m.cfg.PIDFile), m.welcome.SupervisorPID); err != nil {
		m.warn(err.Error())
	}
	m.carryOut(monotime.Now())
	m.serving()
	failpoint.Hit(failpoint.Granted)
	m.upg.Ready()
	failpoint.Hit(failpoint.Flipped)
	m.giveLog(m.startLogging(&m.registry, m.cfg.logStyle()), func(p *proc) bool { return p.Generation == m.gen })
	for _, w := range m.cfg.Warnings {
		m.warn(w)
	}
	for _, w := range m.sockets.Unused() {
		m.warn(w)
	}
}

// onEnd completes the takeover: the registry has named all workers. They are ours, and the old ones drain.
func (m *master) onEnd(message.End) {
	if !m.enter(eventComplete) {
		return
	}
	m.adoptAll()
	m.recallCounts()
	m.heartbeats.dropOld(&m.registry, m.gen, m.procs)
	if m.phase == phaseCurrent {
		m.serveSockets()
		m.loader.watch(m.cfg.Watch, m.log, func() {
			_ = m.supervisor.Post(message.ReloadRequest{Source: message.SourceWatch})
		})
		m.log.Info("generation serves", "generation", m.gen, "version", m.opts.Version, "workers", m.desired)
	}
	if m.welcome.Role == message.RoleRestart {
		m.sockets.TellListening()
		m.takersBy = monotime.Now().Add(takersWait)
	}
	failpoint.Hit(failpoint.TakeoverComplete)
}

// adoptAll takes over the workers of the registry that are not ours.
func (m *master) adoptAll() {
	for name := range m.inherited {
		pid := supervisor.WorkerPID(name)
		if pid == 0 {
			continue
		}
		e, _ := m.claim(name)
		if m.procs[pid] != nil || m.gonePIDs[pid] || e.fd < 0 {
			_ = unix.Close(e.fd)
			continue
		}
		p, err := m.adopt(pid, e.data, e.fd, m.gen)
		if p != nil {
			err = errors.Join(err, m.heartbeats.find(&m.registry, p))
			go p.read(m)
		}
		if err != nil {
			m.log.Error("master: adopt", "pid", pid, "error", err)
		}
	}
	m.forgetReplaced()
}

// onStop drains everything, up to the deadline that the supervisor has set.
func (m *master) onStop(s message.Stop) {
	if m.fails(eventStop, errors.New("master: stopping")) || !m.enter(eventStop) {
		return
	}
	m.stop(monotime.Time(s.Deadline))
}

// stop has all workers drain. Of two deadlines the earlier one counts.
func (m *master) stop(deadline monotime.Time) {
	if m.stopAt != 0 {
		m.stopAt = min(m.stopAt, deadline)
		return
	}
	m.stopAt = deadline
	m.loader.unwatch()
	m.sockets.Close()
}

// onHungUp stops everything, gracefully: the process that the user started is dead. The paths of Unix sockets, and the
// adopted workers, are the master's to look after from here on.
func (m *master) onHungUp() {
	was := m.phase
	if m.fails(eventHungUp, errors.New("master: the supervisor is gone")) || !m.enter(eventHungUp) {
		return
	}
	m.lost = true
	if !was.isAlone() { // the predecessor is about to go, or has gone: the welcome has named its workers
		m.adoptAll()
	}
	for _, p := range m.trackAdopted() {
		m.gone(p)
	}
	m.removePaths()
	if !was.isStopping() {
		m.log.Error("master: the supervisor is gone, stopping everything")
		m.stop(monotime.Now().Add(m.cfg.stopTimeout()))
	}
}

// outOfFiles ends this process: something that the supervisor has given it is lost, perhaps a worker that nobody would
// tell to drain. Before COMMIT that is a failure; after it the next master gets all of it, as if this one had crashed.
func (m *master) outOfFiles(err error) {
	if m.fails(eventTrouble, fmt.Errorf("master: %w", err)) {
		return
	}
	m.log.Error("master: too few descriptors, the next master is to take over", "error", err)
	m.sink.Flush(flushLimit)
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
}
