package master

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/spawn"
	"baton/master/internal/step"
	"baton/master/internal/supervisor"
	"baton/worker"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// proc is a worker process as its master sees it.
type proc struct {
	plan.Worker
	conn   link
	own    bool // our child: we reap it; else the supervisor does
	handle int  // a pidfd, of one that is not our child, when the supervisor is dead
	record message.WorkerRecord
	eof    bool // its control socket is closed: it has said all
	reaped bool // it has ended, with status
	status unix.WaitStatus
	stats  wire.Stats
	bye    bool
	takes  takes
	told   string // who takes its connections
	why    string // we have killed it, and this is why

	accepts listen.Worker

	recycled string // why another one takes its place
	rss      int64  // bytes, when it was looked at last
	beat     uint64 // the heartbeat that was seen last
}

// startWorker starts a process in a slot of the generation that this master is, or is going to be. It replaces another one
// when it is ready, unless replaces is 0.
func (m *master) startWorker(slot, replaces int) error {
	pid, conn, control, err := m.sys.start(spawn.Spec{
		Argv: append([]string{m.args[0], fmt.Sprintf("%s %d", worker.RoleWorker, slot)}, m.args[1:]...),
		Env:  m.workerEnv(), User: m.cfg.User.spawn(),
	})
	if err != nil {
		return fmt.Errorf("worker %d: %w", slot, err)
	}
	defer func() { _ = unix.Close(control) }()
	step.At(step.Forked)
	now := monotime.Now()
	p := &proc{
		Worker: plan.Worker{PID: pid, Generation: m.gen, Slot: slot, Started: now, Replaces: replaces, Grown: m.grown[slot]},
		conn:   conn, own: true,
		record: message.WorkerRecord{
			Generation: m.gen, Slot: slot, Started: int64(now), Listeners: m.sockets.Addresses(slot),
			Starting: m.phase.isMaster(), Replaces: replaces,
		},
	}
	delete(m.grown, slot)
	m.assignHeartbeat(p)
	m.procs[pid] = p
	if err := m.sendSetup(p); err != nil { // usually it has just exited; end-of-file will report that
		p.why = fmt.Sprintf("setup: %v", err)
		m.kill(p)
	}
	m.serveSockets()
	// Not before the setup: if this master dies in between, the worker sees the end and goes, and else it is complete.
	m.store(supervisor.WorkerEntry(pid), p.record, control)
	go m.readWorker(p)
	return nil
}

// workerEnv is explicit: nothing that is between supervisor and masters reaches a worker.
func (m *master) workerEnv() []string {
	var env []string
	for _, kv := range supervisor.Scrub(os.Environ()) {
		if len(kv) < len("GOMAXPROCS=") || kv[:len("GOMAXPROCS=")] != "GOMAXPROCS=" {
			env = append(env, kv)
		}
	}
	env = append(env, worker.RoleEnv+"="+worker.RoleWorker, "GOMAXPROCS="+strconv.Itoa(m.cfg.workerCPUs(m.want)))
	if m.attempt != "" {
		env = append(env, supervisor.AttemptEnv+"="+m.attempt)
	}
	return env
}

func (m *master) sendSetup(p *proc) error {
	s := wire.Setup{
		Generation: m.gen, Slot: p.Slot, Version: m.opts.Version, Payload: len(m.cfg.Payload),
		LogFormat: m.cfg.LogFormat, StopTimeout: int64(m.cfg.stopTimeout()), Tickets: m.tickets.bytes(),
		MaxConnections: m.cfg.MaxConnections, MaxRequests: plan.Jitter(int64(m.cfg.MaxRequests), p.PID),
		HangTimeout: p.record.HangTimeout, Heart: p.record.Heart,
	}
	s.More = true
	fds := []int{m.payload, m.balance}
	if p.record.HangTimeout > 0 {
		fds = append(fds, m.hearts[p.Generation])
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

// adopt takes over a worker that another master has started.
func (m *master) adopt(pid int, data string, fd int) {
	p := &proc{}
	if err := wire.Unmarshal([]byte(data), &p.record); err != nil {
		m.log.Error("master: adopt", "pid", pid, "error", err)
	}
	p.Worker = adopted(pid, p.record, m.gen)
	conn, err := m.sys.adopt(fd)
	if err != nil {
		m.log.Error("master: adopt", "pid", pid, "error", err)
		return
	}
	p.conn = conn
	m.procs[pid] = p
	m.findHeartbeat(p)
	if p.State == plan.Ready && p.record.Starting { // has said Ready to us, or has not
		p.State, p.Started = plan.Starting, monotime.Now()
		_ = p.conn.Post(wire.StatsRequest{})
	}
	go m.readWorker(p)
}

// adopted is a worker as its record describes it, to a master of generation gen. Whatever the clock on the wall shows by
// now, it is as old as it is.
func adopted(pid int, r message.WorkerRecord, gen int) plan.Worker {
	v := plan.Worker{PID: pid, Generation: r.Generation, Slot: r.Slot, Started: monotime.Time(r.Started), State: plan.Serving}
	switch {
	case r.Draining:
		v.State, v.Deadline = plan.Draining, monotime.Time(r.Deadline)
	case r.Generation == gen:
		v.State = plan.Ready // GO once more does no harm
		v.Replaces = r.Replaces
	}
	return v
}

// readWorker turns what a worker says into events, and ends with its control socket.
func (m *master) readWorker(p *proc) {
	for {
		packet, err := p.conn.Recv()
		if err != nil {
			m.send(func() { m.onWorkerEnd(p) })
			return
		}
		m.send(func() { m.onWorker(p, &packet) })
	}
}

// onWorkerEnd: nothing more is read of a worker. Mostly it has exited.
func (m *master) onWorkerEnd(p *proc) {
	p.eof = true
	if m.phase == phaseSuperseded {
		return // it is the successor's
	}
	m.notTaking(p)
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

func (m *master) onWorker(p *proc, packet *seqpacket.Packet) {
	defer packet.Close()
	f := packet.Frame
	switch f.T {
	case wire.Ready{}.Kind():
		m.isReady(p)
	case wire.Takes{}.Kind():
		m.onTakes(p, packet)
	case wire.Retire{}.Kind():
		p.OverRequests = monotime.Earliest(p.OverRequests, monotime.Now())
	case wire.Stats{}.Kind():
		if f.Into(&p.stats) == nil {
			m.gotStats(p)
			if p.stats.State == "ready" {
				m.isReady(p)
			}
		}
	case wire.Bye{}.Kind():
		var bye wire.Bye
		if f.Into(&bye) == nil {
			p.bye = true
			m.countCut(p.Generation, bye)
		}
	}
}

// isReady notes that a worker has said Ready, for a master that adopts it as well.
func (m *master) isReady(p *proc) {
	if p.State != plan.Starting {
		return
	}
	p.State = plan.Ready
	if p.record.Starting {
		p.record.Starting = false
		m.store(supervisor.WorkerEntry(p.PID), p.record, -1)
	}
}

// reap collects our own children among the workers. wait4(-1) would steal the successor.
func (m *master) reap() {
	for pid, p := range m.procs {
		if !p.own {
			continue
		}
		if status, exited := m.sys.wait(pid, unix.WNOHANG); exited {
			_ = m.supervisor.Post(message.Drop{Name: supervisor.WorkerEntry(pid)})
			m.dead(p, status)
		}
	}
}

// dead: the process was reaped. What it said last may still have to be read.
func (m *master) dead(p *proc, ws unix.WaitStatus) {
	p.reaped, p.own, p.status = true, false, ws
	if p.eof {
		m.gone(p)
	}
}

// bury remembers a worker of ours that has ended while the registry may still name it: it is not to be adopted.
func (m *master) bury(pid int) {
	if m.phase.isAlone() {
		return
	}
	if m.buried == nil {
		m.buried = map[int]bool{}
	}
	m.buried[pid] = true
}

// gone: the process has ended, and all that it said was read.
func (m *master) gone(p *proc) {
	if m.procs[p.PID] != p {
		return
	}
	delete(m.procs, p.PID)
	m.bury(p.PID)
	m.forgetReplaced()
	m.dropHearts()
	if p.why == plan.WhyHung {
		m.counts.Hung++
		m.saveCounts()
	}
	attrs := []any{"generation", p.Generation, "slot", p.Slot, "pid", p.PID}
	if p.bye && p.status.ExitStatus() == 0 && p.State != plan.Draining {
		// Somebody has told it to drain, and it was not us. One of our own generation can only have been told by the supervisor,
		// which is stopping, and its word to us is on the way; an older one also by a master that died then.
		p.State = plan.Draining
		if p.Generation == m.gen {
			m.onStop(message.Stop{Deadline: int64(monotime.Now().Add(m.cfg.stopTimeout()))})
		}
	}
	if p.State == plan.Draining {
		m.log.Info("worker gone", attrs...)
		if !p.bye {
			m.log.Warn("worker ended without a word, what it held was cut", append(attrs, "status", p.end())...)
		}
		return
	}
	if m.fails(eventUnready, fmt.Errorf("worker %d (pid %d): ended before it was ready: %s", p.Slot, p.PID, p.end())) {
		return
	}
	m.counts.Crashes++
	m.saveCounts()
	m.log.Error("worker crashed", append(attrs, "status", p.end())...)
	if m.replacementFailed(p) {
		return
	}
	if p.Generation == m.gen && !m.phase.isStopping() {
		m.slotCrashed(p.Slot, time.Duration(monotime.Now()-p.Started), p.end())
		m.serveSockets()
	}
}

// end is how the process has ended, in words.
func (p *proc) end() string {
	if p.why != "" {
		return p.why + ", " + describe(p.status)
	}
	return describe(p.status)
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal " + ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
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
		m.startReplacement(m.procs[a.PID], a.Why)
	case plan.Retire:
		m.retire(m.procs[a.PID], a.Deadline)
	case plan.Drain:
		m.drain(m.procs[a.PID], a.Deadline)
	case plan.Cut:
		p := m.procs[a.PID]
		m.log.Warn("master: too many generations drain, cutting the oldest", "generation", p.Generation, "slot", p.Slot, "pid", p.PID)
		m.drain(p, a.Deadline)
	case plan.Heal:
		m.crashes.Heal(a.Slot)
		m.log.Info("a slot that had crashed again and again serves", "generation", m.gen, "slot", a.Slot)
	case plan.Kill:
		p := m.procs[a.PID]
		p.Killed, p.why = monotime.Now(), a.Why
		m.log.Warn("master: killing a worker", "generation", p.Generation, "slot", p.Slot, "pid", p.PID, "because", a.Why)
		m.kill(p)
	}
}

func (m *master) kill(p *proc) {
	if p.own {
		m.sys.kill(p.PID) // not reaped, so the number is still its own
		return
	}
	if m.phase == phaseOrphaned {
		m.killAdopted(p)
		return
	}
	_ = m.supervisor.Post(message.Kill{PID: p.PID})
}

func (m *master) drain(p *proc, deadline monotime.Time) {
	p.State, p.Deadline = plan.Draining, deadline
	m.tellTakers()
	d := wire.Drain{Deadline: int64(deadline), Stop: m.phase.isStopping(), Ends: m.sockets.Ended(p.record.Listeners, p.Generation)}
	_ = p.conn.Post(d)
	p.record.Draining, p.record.Deadline = true, int64(deadline)
	m.store(supervisor.WorkerEntry(p.PID), p.record, -1)
}
