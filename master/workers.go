package master

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/failpoint"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/spawn"
	"baton/master/internal/supervisor"
	"baton/worker"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// startWorker starts a process in a slot of the generation that this master is, or is going to be. It replaces another
// one when it is ready, unless replaces is 0.
func (m *master) startWorker(slot, replaces int) error {
	pid, conn, control, err := m.sys.start(spawn.Spec{
		Argv: append([]string{m.args[0], fmt.Sprintf("%s %d", worker.RoleWorker, slot)}, m.args[1:]...),
		Env:  workerEnv(m.attempt, m.cfg.workerCPUs(m.desired)), User: m.cfg.User.spawn(),
	})
	if err != nil {
		return fmt.Errorf("worker %d: %w", slot, err)
	}
	defer func() { _ = unix.Close(control) }()
	failpoint.Hit(failpoint.Forked)
	now := monotime.Now()
	p := &proc{
		Worker: plan.Worker{
			PID: pid, Generation: m.gen, Slot: slot, Started: now, Replaces: replaces, Grown: m.grown[slot],
		},
		conn: conn, own: true,
		record: message.WorkerRecord{
			Generation: m.gen, Slot: slot, Started: int64(now), Listeners: m.sockets.Addresses(slot),
			Starting: m.phase.isMaster(), Replaces: replaces,
		},
	}
	delete(m.grown, slot)
	m.heartbeats.assign(p, m.cfg.HangTimeout, m.procs)
	m.procs[pid] = p
	if err := m.sendSetup(p); err != nil { // usually it has just exited; end-of-file will report that
		p.why = fmt.Sprintf("setup: %v", err)
		m.kill(p)
	}
	m.serveSockets()
	// Not before the setup: if this master dies in between, the worker sees end-of-file and exits; after it, it is
	// complete.
	m.store(supervisor.WorkerEntry(pid), p.record, control)
	go p.read(m)
	return nil
}

// workerEnv is this process's, without what is between supervisor and masters.
func workerEnv(attempt string, cpus int) []string {
	env := slices.DeleteFunc(supervisor.Scrub(os.Environ()), func(kv string) bool {
		return strings.HasPrefix(kv, "GOMAXPROCS=")
	})
	env = append(env, worker.RoleEnv+"="+worker.RoleWorker, "GOMAXPROCS="+strconv.Itoa(cpus))
	if attempt != "" {
		env = append(env, supervisor.AttemptEnv+"="+attempt)
	}
	return env
}

func (m *master) sendSetup(p *proc) error {
	s := wire.Setup{
		Generation: m.gen, Slot: p.Slot, Workers: m.desired, Version: m.opts.Version, Payload: len(m.cfg.Payload),
		Log: m.cfg.logStyle(), StopTimeout: int64(m.cfg.stopTimeout()), Tickets: m.tickets.bytes(),
		MaxConnections: m.cfg.MaxConnections, MaxRequests: plan.Jitter(int64(m.cfg.MaxRequests), p.PID),
		HangTimeout: p.record.HangTimeout, Heart: p.record.Heart, More: true,
	}
	fds := []int{m.payload, m.balance}
	if p.record.HangTimeout > 0 {
		fds = append(fds, m.heartbeats.files[p.Generation])
	}
	if err := p.conn.Post(s, fds...); err != nil {
		return err
	}
	if err := m.sockets.Give(p.asListener(), m.paths()); err != nil {
		return err
	}
	if fd := m.workerLog(); fd >= 0 {
		return p.conn.Post(wire.LogFile{}, fd)
	}
	return nil
}

// onWorkerEnd notes that nothing more is read of a worker. Mostly it has exited.
func (m *master) onWorkerEnd(p *proc) {
	p.eof = true
	if m.phase == phaseSuperseded {
		return // it is the successor's
	}
	p.stopTaking()
	_ = p.conn.Close()
	switch {
	case p.reaped, !p.own && m.phase == phaseOrphaned:
		m.gone(p)
	case p.own:
		m.reap()
	default:
		_ = m.supervisor.Post(message.AwaitExit{PID: p.PID}) // answered when it is reaped
	}
}

// workerHandlers are those of the workers' messages.
var workerHandlers = map[string]func(*master, *proc, *seqpacket.Packet) error{
	wire.Ready{}.Kind(): onWorker((*master).onReady),
	wire.Takes{}.Kind(): func(_ *master, p *proc, packet *seqpacket.Packet) error { return p.onTakes(packet) },
	wire.Retire{}.Kind(): onWorker(func(_ *master, p *proc, _ wire.Retire) {
		p.OverRequests = monotime.Earliest(p.OverRequests, monotime.Now())
	}),
	wire.Stats{}.Kind(): onWorker((*master).onStats),
	wire.Bye{}.Kind():   onWorker((*master).onBye),
}

func onWorker[M wire.Message](do func(*master, *proc, M)) func(*master, *proc, *seqpacket.Packet) error {
	return func(m *master, p *proc, packet *seqpacket.Packet) error {
		return wire.On(packet.Frame, func(msg M) { do(m, p, msg) })
	}
}

func (m *master) onWorker(p *proc, packet *seqpacket.Packet) {
	defer packet.Close()
	handle := workerHandlers[packet.Frame.T]
	if handle == nil {
		return
	}
	if err := handle(m, p, packet); err != nil {
		m.log.Error("master: message of a worker", p.attrs("kind", packet.Frame.T, "error", err)...)
	}
}

// onReady notes that a worker has said Ready, for a master that adopts it as well.
func (m *master) onReady(p *proc, _ wire.Ready) {
	if p.State != plan.Starting {
		return
	}
	p.State = plan.Ready
	if p.record.Starting {
		p.record.Starting = false
		m.update(p)
	}
}

func (m *master) onStats(p *proc, s wire.Stats) {
	p.stats = s
	m.queries.answered(p)
	if s.State == "ready" {
		m.onReady(p, wire.Ready{})
	}
}

func (m *master) onBye(p *proc, b wire.Bye) {
	p.bye, p.failure = true, b.Failure
	if b.CutRequests+b.CutConns > 0 {
		_ = m.supervisor.Post(message.Cut{Generation: p.Generation, Requests: b.CutRequests, Connections: b.CutConns})
	}
	m.count(func(c *counts) {
		c.Handed.Add(b.Handed)
		c.CutRequests += b.CutRequests
		c.CutConnections += b.CutConns
	})
}

func (m *master) reap() {
	for _, p := range m.pool.reap() {
		m.gone(p)
	}
}

// onExited notes that the supervisor has reaped a worker that another master has started.
func (m *master) onExited(e message.Exited) {
	p, ok := m.procs[e.PID]
	if ok && !p.own && !p.reaped && p.died(unix.WaitStatus(e.Status)) {
		m.gone(p)
	}
}

// gone removes a worker that has exited, and of which everything was read.
func (m *master) gone(p *proc) {
	if m.procs[p.PID] != p {
		return
	}
	m.remove(p, !m.phase.isAlone())
	if m.phase.isAlone() {
		m.heartbeats.dropOld(&m.registry, m.gen, m.procs)
	}
	if p.why == plan.WhyHung {
		m.count(func(c *counts) { c.Hung++ })
	}
	if p.bye && p.status.ExitStatus() == 0 && p.State != plan.Draining {
		// It was told to drain, and not by us. One of our own generation can only have been told by the supervisor,
		// which is stopping, and its word to us is on the way; an older one also by a master that died then.
		p.State = plan.Draining
		if p.Generation == m.gen {
			m.onStop(message.Stop{Deadline: int64(monotime.Now().Add(m.cfg.stopTimeout()))})
		}
	}
	switch {
	case p.State == plan.Draining:
		m.log.Info("worker gone", p.attrs()...)
		if !p.bye {
			m.log.Warn("worker exited without reporting; its connections are lost", p.attrs("status", p.end())...)
		}
	case m.fails(eventUnready, p.unready()):
	default:
		m.crashed(p)
	}
}

// crashed counts a worker that has exited unasked, and fills its slot.
func (m *master) crashed(p *proc) {
	m.count(func(c *counts) { c.Crashes++ })
	m.log.Error("worker crashed", p.attrs("status", p.end())...)
	switch {
	case p.Replaces != 0 && p.State != plan.Serving:
		m.cannotReplace(p.end())
	case p.Generation == m.gen && !m.phase.isStopping():
		m.slotCrashed(p.Slot, monotime.Now().Sub(p.Started), p.end())
		m.serveSockets()
	}
}

// slotCrashed notes that the worker of a slot has crashed or could not be started, and says so when it is not the first
// time. When the slot is filled again is the plan's business.
func (m *master) slotCrashed(slot int, lived time.Duration, how string) {
	now := monotime.Now()
	loop, begins := m.crashes.Add(slot, m.desired, lived, how, now)
	if !begins {
		return
	}
	m.log.Error("a slot crashes again and again", "generation", m.gen, "slot", slot, "crashes", loop.Crashes,
		"last", how, "next_start", loop.NextStart.Round(time.Millisecond))
	if loop.Young {
		m.log.Error("THE NEW GENERATION CRASHES", "generation", m.gen,
			"since_takeover", now.Sub(m.crashes.Committed).Round(time.Millisecond),
			"crashes", loop.Total, "still_draining", m.view(now).OlderGenerations())
	}
}

// apply does what the plan says.
func (m *master) apply(a plan.Action) {
	switch a := a.(type) {
	case plan.Start:
		if err := m.startWorker(a.Slot, 0); err != nil {
			m.log.Error("master: start", "error", err)
			m.slotCrashed(a.Slot, 0, err.Error())
		}
	case plan.Activate:
		p := m.procs[a.PID]
		p.State = plan.Serving
		_ = p.conn.Post(wire.Go{PIDFile: m.files.pid})
		m.serveSockets()
	case plan.Replace:
		m.replace(m.procs[a.PID], a.Why)
	case plan.Retire:
		m.retire(m.procs[a.PID], a.Deadline)
	case plan.Drain:
		m.drain(m.procs[a.PID], a.Deadline)
	case plan.Cut:
		p := m.procs[a.PID]
		m.log.Warn("master: too many generations drain, cutting the oldest", p.attrs()...)
		m.drain(p, a.Deadline)
	case plan.Heal:
		m.crashes.Heal(a.Slot)
		m.log.Info("a slot that had crashed again and again serves", "generation", m.gen, "slot", a.Slot)
	case plan.Kill:
		p := m.procs[a.PID]
		p.Killed, p.why = monotime.Now(), a.Why
		m.log.Warn("master: killing a worker", p.attrs("because", a.Why)...)
		m.kill(p)
	}
}

// replace starts the worker that takes the place of old when it is ready.
func (m *master) replace(old *proc, why string) {
	m.log.Info("worker is recycled", old.attrs("because", why)...)
	old.recycled = why
	if err := m.startWorker(old.Slot, old.PID); err != nil {
		m.cannotReplace(err.Error())
	}
}

func (m *master) cannotReplace(because string) {
	failures, pause := m.recycling.Failed(because, monotime.Now())
	m.log.Error("master: a worker cannot be recycled, the old one serves on", "because", because, "failures", failures,
		"pause", pause.Round(time.Second))
}

// retire drains a worker whose replacement serves.
func (m *master) retire(old *proc, deadline monotime.Time) {
	m.recycling.Replaced()
	if old.recycled == plan.WhyMemory {
		text, again, pause := m.recycling.ReplacedForMemory(old.Worker, m.cfg.MaxMemory, old.rss, monotime.Now())
		if text != "" {
			m.log.Warn("master: "+text, "again", again, "pause", pause.Round(time.Second))
		}
	}
	m.count(func(c *counts) { c.Recycled++ })
	m.drain(old, deadline)
}

func (m *master) drain(p *proc, deadline monotime.Time) {
	p.State, p.Deadline = plan.Draining, deadline
	m.tellTakers()
	_ = p.conn.Post(wire.Drain{
		Deadline: int64(deadline), Stop: m.phase.isStopping(), Ends: m.sockets.Ended(p.record.Listeners, p.Generation),
	})
	p.record.Draining, p.record.Deadline = true, int64(deadline)
	m.update(p)
}
