package supervisor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/spawn"
	"baton/worker/logsink"
	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// outOfFiles is why an attempt fails when a message of it was lost.
const outOfFiles = "the supervisor is out of file descriptors"

// onPacket is one message of a master, or its end.
func (sv *supervisor) onPacket(ev packetEvent) {
	c, p := ev.from, &ev.packet
	switch {
	case errors.Is(ev.err, seqpacket.ErrCut):
		sv.onCut(c)
	case c == nil:
		sv.onRegistration(p, ev.err)
	case isPause(ev.err):
		c.paused = true
	case ev.err != nil:
		sv.onEnd(c)
	default:
		defer p.Close()
		if err := sv.onMessage(c, p); err != nil {
			sv.log.Error("supervisor: message of a master", "pid", c.pid, "kind", p.Frame.T, "error", err)
		}
	}
}

func (sv *supervisor) onRegistration(p *seqpacket.Packet, err error) {
	switch {
	case err == nil:
		sv.onHello(*p)
	case isPause(err):
		sv.registration.state = registrationPaused
	default:
		sv.registration.state = registrationBroken
		sv.log.Error("supervisor: registration socket closed, reloads will fail until a restart")
	}
}

func (sv *supervisor) readRegistrations() { read(sv.registration.conn, nil, sv.events.packets) }

// onHello begins a conversation, if the process has a reason to be here.
func (sv *supervisor) onHello(p seqpacket.Packet) {
	defer p.Close()
	fd := p.TakeFD()
	if fd < 0 {
		return
	}
	socket, err := seqpacket.New(fd)
	if err != nil {
		sv.log.Error("supervisor: hello", "error", err)
		if sv.attempt != nil && errors.Is(err, unix.EMFILE) {
			sv.attempt.setReason(outOfFiles)
		}
		return
	}
	sv.register(&masterConn{conn: socket, pidfd: -1}, p.Frame)
}

func (sv *supervisor) register(c *masterConn, hello wire.Frame) {
	var err error
	if c.pid, err = c.PeerPID(); err == nil {
		c.openPidfd(sv.kernel)
		err = sv.admit(c, hello)
	}
	if err != nil {
		sv.log.Warn("supervisor: a master was refused", "pid", c.pid, "error", err)
		_ = c.Post(message.Refused{Error: err.Error()})
		c.Flush()
		_ = c.Close()
		c.closePidfd()
		return
	}
	sv.welcome(c)
	sv.live++
	go read(c, c, sv.events.packets)
}

// onCut handles a message that was lost because this process has too many open files. An attempt ends with it; a master
// goes on, and the descriptors that it wanted to keep do not outlive it.
func (sv *supervisor) onCut(c *masterConn) {
	sv.log.Error("supervisor: out of descriptors, a message was lost", "error", seqpacket.ErrCut)
	if sv.attempt == nil || c != nil && c != sv.attempt.successor {
		return
	}
	sv.attempt.setReason(outOfFiles)
	if c != nil {
		sv.killSuccessor()
	}
}

// onMessage obeys one message, as far as the sender's phase lets it say something.
func (sv *supervisor) onMessage(c *masterConn, p *seqpacket.Packet) error {
	c.heard = time.Now()
	switch c.phase {
	case phaseFirst, phaseRestart, phaseSuccessor, phaseCommitted, phaseCurrent:
		return sv.handle(c, p)
	case phaseSuperseded:
		sv.onSuperseded(c, p)
	case phaseFailed:
		discardPut(p)
		if p.Frame.T == (message.Commit{}).Kind() {
			sv.onCommit(c, message.Commit{})
		}
	case phaseNew, phaseLeaving, phaseGone:
	}
	return nil
}

// handle obeys one message. What it does not know is dropped: it may be a newer release's.
func (sv *supervisor) handle(c *masterConn, p *seqpacket.Packet) error {
	f := p.Frame
	switch f.T {
	case message.Put{}.Kind():
		return wire.On(f, func(m message.Put) { sv.onPut(c, m, p.TakeFD()) })
	case message.Drop{}.Kind():
		return wire.On(f, func(m message.Drop) { sv.onDrop(c, m) })
	case message.Preparing{}.Kind():
		return wire.On(f, func(m message.Preparing) { sv.onPreparing(c, m) })
	case message.Commit{}.Kind():
		return wire.On(f, func(m message.Commit) { sv.onCommit(c, m) })
	case message.Serving{}.Kind():
		return wire.On(f, func(m message.Serving) { sv.onServing(c, m) })
	case message.Compared{}.Kind():
		sv.onCompared(c)
	case message.Fail{}.Kind():
		return wire.On(f, func(m message.Fail) { sv.onFail(c, m) })
	case message.Upgrading{}.Kind():
		return wire.On(f, func(m message.Upgrading) { sv.onUpgrading(c, m) })
	case message.UpgradeFailed{}.Kind():
		return wire.On(f, sv.onUpgradeFailed)
	case message.ReloadRequest{}.Kind():
		return wire.On(f, func(m message.ReloadRequest) { sv.request(m.Source, true) })
	case message.Oldest{}.Kind():
		return wire.On(f, sv.results.setOldest)
	case message.Cut{}.Kind():
		return wire.On(f, sv.results.addCut)
	case message.Reopened{}.Kind():
		c.reopens--
	case message.StatusAnswer{}.Kind():
		return wire.On(f, func(m message.StatusAnswer) { sv.front.onStatus(m, p) })
	case message.AwaitExit{}.Kind():
		return wire.On(f, func(m message.AwaitExit) { sv.onAwaitExit(m.PID) })
	case message.Kill{}.Kind():
		return wire.On(f, func(m message.Kill) { sv.onKill(m.PID) })
	}
	return nil
}

func (sv *supervisor) onPut(c *masterConn, m message.Put, fd int) {
	if pid := WorkerPID(m.Name); pid > 0 && c.phase == phaseSuccessor {
		sv.attempt.workers = append(sv.attempt.workers, pid)
	}
	sv.change(c, change{name: m.Name, e: entry{Data: m.Data, Unlink: m.Unlink, Undo: m.Undo, FD: fd}})
	if c == sv.current {
		sv.held.resized(m.Resized, m.Failed)
	}
}

func (sv *supervisor) onDrop(c *masterConn, m message.Drop) {
	worker := WorkerPID(m.Name)
	if sv.attempt != nil {
		sv.attempt.forgetWorker(worker)
	}
	sv.change(c, change{name: m.Name, drop: true})
	if worker != 0 { // which the master has reaped, and what the worker ran is a child of this process now
		sv.endInstances(time.Now())
	}
}

// change is staged for a successor, and true at once for the master.
func (sv *supervisor) change(c *masterConn, ch change) {
	c.staged = append(c.staged, ch)
	switch {
	case c == sv.current:
		sv.applyStaged(c)
	case c.phase == phaseFirst && ch.name == EntryControl && !ch.drop:
		sv.front.serve(ch.e) // who asks before anything serves is told so
	}
}

func (sv *supervisor) applyStaged(c *masterConn) {
	changed := map[string]bool{}
	for _, ch := range c.staged {
		changed[ch.name] = true
	}
	c.staged.apply(sv.registry)
	c.staged = nil
	if changed[EntryLog] {
		sv.switchLog()
	}
	if changed[EntryControl] {
		sv.front.serve(sv.registry.get(EntryControl))
	}
}

// switchLog makes the supervisor log where the master says.
func (sv *supervisor) switchLog() {
	e, ok := sv.registry[EntryLog]
	if !ok { // another one follows
		return
	}
	var style wire.LogStyle
	if err := wire.Unmarshal([]byte(e.Data), &style); err != nil {
		sv.log.Error("supervisor: log", "error", err)
	}
	sv.log = logsink.Logger(sv.sink, style)
	fd := 2
	if e.FD >= 0 {
		var err error
		if fd, err = rawfd.Dup(e.FD); err != nil {
			sv.log.Error("supervisor: log", "error", err)
			return
		}
	}
	sv.sink.SetFD(fd)
}

// onServing notes that the committed master has done what it has promised.
func (sv *supervisor) onServing(c *masterConn, m message.Serving) {
	if c != sv.current || sv.stopping.begun() {
		return
	}
	c.serving = true
	sv.size = m.Workers
	sv.systemd.Sync()
	if sv.attempt == nil {
		sv.sayReady()
	} else {
		sv.systemd.Status(sv.statusLine())
	}
}

// onCompared notes that a master has compared the files with its config; if they differ it has asked for a reload
// before.
func (sv *supervisor) onCompared(c *masterConn) {
	if c == sv.current && c.serving && sv.attempt == nil && sv.requests == sv.served {
		sv.sayReady()
	}
}

// post sends to the current master, if there is one.
func (m *masters) post(msg wire.Message) {
	if m.current != nil {
		_ = m.current.Post(msg)
	}
}

// onFail notes why the sender is about to exit.
func (m *masters) onFail(c *masterConn, msg message.Fail) {
	if c.phase == phaseSuccessor {
		m.attempt.setReason(msg.Error)
	}
	c.exitReason = msg.Error
	if m.generation == 0 {
		m.sv.systemd.Status("start failed: " + msg.Error)
	}
}

// onAwaitExit answers when there is no such child, else when it is reaped.
func (sv *supervisor) onAwaitExit(pid int) {
	ws, died := sv.dead[pid]
	if !died && sv.kernel.isChild(pid) {
		return
	}
	delete(sv.dead, pid)
	sv.registry.drop(WorkerEntry(pid))
	sv.post(message.Exited{PID: pid, Status: uint32(ws), Known: died})
}

func (sv *supervisor) onKill(pid int) {
	if sv.kernel.isChild(pid) {
		sv.kernel.signal(pid, unix.SIGKILL)
	}
}

// reap collects the children that have exited. It reports whether there is no child left.
func (sv *supervisor) reap() (none bool) {
	reaped := false
	for {
		pid, ws, err := sv.kernel.wait()
		if pid == 0 {
			none = errors.Is(err, unix.ECHILD)
			break
		}
		sv.onReaped(pid, ws)
		reaped = true
	}
	if reaped && !none {
		sv.endInstances(time.Now())
	}
	if sv.stopping.phase == stopKilling && !none {
		sv.killChildren()
	}
	return none
}

func (sv *supervisor) onReaped(pid int, ws unix.WaitStatus) {
	if _, worker := sv.registry[WorkerEntry(pid)]; worker && sv.current == nil && !sv.stopping.begun() {
		sv.dead[pid] = ws // the next master has to read what it said last, and asks then
		return
	}
	sv.registry.drop(WorkerEntry(pid))
	sv.forgetChild(pid)
	sv.post(message.Exited{PID: pid, Status: uint32(ws), Known: true})
	if sv.current == nil && sv.restarts.Last == "" {
		sv.restarts.note(pid, spawn.Describe(ws))
	}
	switch c := sv.of(pid); {
	case c != nil:
		sv.onMasterReaped(c, ws)
	case sv.reexec.candidate.PID() == pid:
		sv.reexec.dryRunEnded(ws)
	}
}
