package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/logsink"
	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// onHello begins a session, if the process has a reason to be here.
func (sv *supervisor) onHello(p seqpacket.Packet) {
	defer p.Close()
	fd := p.TakeFD()
	if fd < 0 {
		return
	}
	conn, err := seqpacket.New(fd)
	if err != nil {
		sv.log.Error("supervisor: hello", "error", err)
		if sv.attempt != nil && errors.Is(err, unix.EMFILE) {
			sv.attempt.blame("the supervisor is out of file descriptors")
		}
		return
	}
	s := &session{conn: conn, pidfd: -1}
	if s.pid, err = conn.PeerPID(); err == nil {
		s.hold()
		err = sv.admit(s, p.Frame)
	}
	if err != nil {
		sv.log.Warn("supervisor: a process was refused at the door", "pid", s.pid, "error", err)
		_ = conn.Post(message.Refused{Error: err.Error()})
		conn.Flush()
		_ = conn.Close()
		s.letGo()
		return
	}
	sv.welcome(s)
	sv.live++
	go sv.read(s)
}

// onPacket is one message of a master, or its end.
func (sv *supervisor) onPacket(ev packetEvent) {
	s := ev.from
	switch {
	case s == nil && ev.packet != nil:
		sv.onHello(*ev.packet)
		return
	case ev.cut:
		sv.onCut(s)
		return
	case s == nil && ev.paused:
		sv.doorPaused = true
		return
	case s == nil:
		sv.doorBroken = true
		sv.log.Error("supervisor: the door is broken, no reload will work")
		return
	case ev.paused:
		s.paused = true
		return
	case ev.packet == nil:
		sv.onEnd(s)
		return
	}
	defer ev.packet.Close()
	if err := sv.onMessage(s, ev.packet); err != nil {
		sv.log.Error("supervisor: message of a master", "pid", s.pid, "kind", ev.packet.Frame.T, "error", err)
	}
}

// onMessage gives a message to the one that listens in this phase.
func (sv *supervisor) onMessage(s *session, p *seqpacket.Packet) error {
	switch s.phase {
	case phaseFirst, phaseRestart, phaseSuccessor, phaseCommitted, phaseCurrent:
		return sv.handle(s, p)
	case phaseSuperseded:
		sv.onLateWord(s, p)
	case phaseFailed:
		s.undo(p)
		if p.Frame.T == (message.Commit{}).Kind() {
			return wire.On(p.Frame, func(m message.Commit) { sv.onCommit(s, m) })
		}
	case phaseDoor, phaseLeft, phaseGone:
	}
	return nil
}

// onCut: a message of a master, or of one who is at the door, was lost because we have too many open files. An attempt ends
// with it; a master goes on, and what it wanted to store does not outlive it.
func (sv *supervisor) onCut(s *session) {
	sv.log.Error("supervisor: out of descriptors, a message was lost", "error", seqpacket.ErrCut)
	if sv.attempt == nil || s != nil && s != sv.attempt.successor {
		return
	}
	sv.attempt.blame("the supervisor is out of file descriptors")
	if s != nil {
		sv.abandonSuccessor()
	}
}

// handle answers one message. What it does not know is dropped: it may be a newer release's.
func (sv *supervisor) handle(s *session, p *seqpacket.Packet) error {
	f := p.Frame
	switch f.T {
	case message.Put{}.Kind():
		return sv.onPut(s, p)
	case message.Drop{}.Kind():
		return wire.On(f, func(m message.Drop) { sv.onDrop(s, m) })
	case message.Preparing{}.Kind():
		return wire.On(f, func(m message.Preparing) { sv.onPreparing(s, m) })
	case message.Commit{}.Kind():
		return wire.On(f, func(m message.Commit) { sv.onCommit(s, m) })
	case message.Serving{}.Kind():
		return wire.On(f, func(m message.Serving) { sv.onServing(s, m) })
	case message.Compared{}.Kind():
		sv.onCompared(s)
	case message.Fail{}.Kind():
		return wire.On(f, func(m message.Fail) { sv.onFail(s, m) })
	case message.Upgrading{}.Kind():
		return wire.On(f, func(m message.Upgrading) { sv.onUpgrading(s, m) })
	case message.UpgradeFailed{}.Kind():
		return wire.On(f, sv.onUpgradeFailed)
	case message.ReloadRequest{}.Kind():
		return wire.On(f, func(m message.ReloadRequest) { sv.request(m.Source, true) })
	case message.Oldest{}.Kind():
		return wire.On(f, sv.onOldest)
	case message.Cut{}.Kind():
		return wire.On(f, sv.onWorkerCut)
	case message.Reopened{}.Kind():
		s.reopens--
	case message.StatusAnswer{}.Kind():
		var m message.StatusAnswer
		if err := f.Into(&m); err != nil {
			return err
		}
		return sv.onStatus(m, p)
	case message.AwaitExit{}.Kind():
		return wire.On(f, func(m message.AwaitExit) { sv.onGoneQuestion(m.PID) })
	case message.Kill{}.Kind():
		return wire.On(f, func(m message.Kill) { sv.onKill(m.PID) })
	}
	return nil
}

func (sv *supervisor) onDrop(s *session, m message.Drop) {
	if sv.attempt != nil {
		sv.attempt.forget(WorkerPID(m.Name))
	}
	sv.change(s, change{name: m.Name, drop: true})
}

// onFail: the sender says why it is about to exit.
func (sv *supervisor) onFail(s *session, m message.Fail) {
	if s.phase == phaseSuccessor {
		sv.attempt.blame(m.Error)
	}
	s.lastWord = m.Error
	if sv.generation == 0 {
		sv.sayStartFailed(m.Error)
	}
}

func (sv *supervisor) onKill(pid int) {
	if isChild(pid) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func (sv *supervisor) onPut(s *session, p *seqpacket.Packet) error {
	var m message.Put
	if err := p.Frame.Into(&m); err != nil {
		return err
	}
	if pid := WorkerPID(m.Name); pid > 0 && s.phase == phaseSuccessor {
		sv.attempt.workers = append(sv.attempt.workers, pid)
	}
	sv.change(s, change{name: m.Name, e: entry{data: m.Data, unlink: m.Unlink, undo: m.Undo, fd: p.TakeFD()}})
	if s == sv.current {
		sv.resized(m.Resized, m.Failed)
	}
	return nil
}

// change is staged for a successor, and true at once for the master.
func (sv *supervisor) change(s *session, c change) {
	s.staged = append(s.staged, c)
	switch {
	case s == sv.current:
		sv.applyStaged(s)
	case s.phase == phaseFirst && c.name == EntryControl && !c.drop:
		sv.serveControl(c.e) // who asks before anything serves is told so
	}
}

func (sv *supervisor) applyStaged(s *session) {
	log, control := false, false
	for _, c := range s.staged {
		log = log || c.name == EntryLog
		control = control || c.name == EntryControl
	}
	s.staged.apply(sv.registry)
	s.staged = nil
	if log {
		sv.switchLog()
	}
	if control {
		sv.switchControl()
	}
}

// switchControl answers on the control socket of the registry, or on none.
func (sv *supervisor) switchControl() {
	e, ok := sv.registry[EntryControl]
	if !ok {
		e.fd = -1
	}
	sv.serveControl(e)
}

// planRestart plans the next start of a master, after one that has served for so long.
func (sv *supervisor) planRestart(served time.Duration) {
	sv.deaths++
	sv.starting = nil
	sv.dl.restart = time.Now().Add(sv.backoff.Next(served))
	sv.sayStatus()
}

// restartMaster starts a master, or ends one that was started and has not taken over in time.
func (sv *supervisor) restartMaster() {
	switch {
	case sv.stopping || sv.current != nil:
	case sv.starting != nil:
		sv.tooLate(sv.starting)
	default:
		sv.restarts++
		if err := sv.startMaster(); err != nil {
			sv.log.Error("supervisor: restart", "error", err)
			sv.lastDeath = err.Error()
			sv.planRestart(0)
			return
		}
		sv.lastDeath, sv.lost = "", sv.starting.pid
		sv.dl.restart = time.Now().Add(restartLimit)
	}
}

// kill kills a master, whoever's child it is.
func (sv *supervisor) kill(s *session) {
	switch {
	case s.pidfd >= 0:
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
	case isChild(s.pid):
		_ = unix.Kill(s.pid, unix.SIGKILL)
	}
}

// reap collects the dead and tells whom it concerns. It reports whether there is no child left.
func (sv *supervisor) reap() (none bool) {
	none = reap(sv.onReaped)
	if sv.killing && !none {
		killChildren()
	}
	return none
}

func (sv *supervisor) onReaped(pid int, ws unix.WaitStatus) {
	if _, worker := sv.registry[WorkerEntry(pid)]; worker && sv.current == nil && !sv.stopping {
		sv.dead[pid] = ws // the next master is to read what it said last, and asks then
		return
	}
	sv.registry.drop(WorkerEntry(pid))
	sv.leaving = slices.DeleteFunc(sv.leaving, func(p int) bool { return p == pid })
	if sv.attempt != nil {
		sv.attempt.forget(pid)
	}
	sv.post(message.Exited{PID: pid, Status: uint32(ws), Known: true})
	if sv.current == nil && sv.lost == pid && sv.lastDeath == "" {
		sv.lastDeath = describe(ws)
	}
	s := sv.masterOf(pid)
	switch {
	case s != nil:
		sv.masterReaped(s, ws)
	case sv.follow.pid == pid:
		sv.dryRunEnded(ws)
	}
}

// masters lists those that start, serve, or are about to go.
func (sv *supervisor) masters() []*session {
	all := []*session{sv.starting, sv.current, sv.old}
	if sv.attempt != nil {
		all = append(all, sv.attempt.successor)
	}
	return slices.DeleteFunc(all, func(s *session) bool { return s == nil })
}

// masterOf finds a process among them; nil: it is none.
func (sv *supervisor) masterOf(pid int) *session {
	for _, s := range sv.masters() {
		if s.pid == pid {
			return s
		}
	}
	return nil
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal " + ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

// onGoneQuestion answers when there is no such child, else when it is reaped.
func (sv *supervisor) onGoneQuestion(pid int) {
	ws, died := sv.dead[pid]
	if !died && isChild(pid) {
		return
	}
	delete(sv.dead, pid)
	sv.registry.drop(WorkerEntry(pid))
	sv.post(message.Exited{PID: pid, Status: uint32(ws), Known: died})
}

// switchLog makes the supervisor log where the master says.
func (sv *supervisor) switchLog() {
	e := sv.registry[EntryLog]
	sv.log = logsink.Logger(sv.sink, e.data)
	fd := 2
	if e.fd >= 0 {
		d, err := rawfd.Dup(e.fd)
		if err != nil {
			sv.log.Error("supervisor: log", "error", err)
			return
		}
		fd = d
	}
	sv.sink.SetFD(fd)
}
