package keeper

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// onHello begins a session, if the process has a reason to be here.
func (k *keeper) onHello(p seqpacket.Packet) {
	defer p.Close()
	fd := p.TakeFD()
	if fd < 0 {
		return
	}
	conn, err := seqpacket.New(fd)
	if err != nil {
		k.log.Error("keeper: hello", "error", err)
		if k.attempt != nil && errors.Is(err, unix.EMFILE) {
			k.attempt.blame("the keeper is out of file descriptors")
		}
		return
	}
	s := &session{conn: conn, pidfd: -1}
	if s.pid, err = conn.PeerPID(); err == nil {
		s.hold()
		err = k.admit(s, p.Frame)
	}
	if err != nil {
		k.log.Warn("keeper: a process was refused at the door", "pid", s.pid, "error", err)
		_ = conn.Post(wire.Refused{Error: err.Error()})
		conn.Flush()
		_ = conn.Close()
		s.letGo()
		return
	}
	k.welcome(s)
	k.live++
	go k.read(s)
}

// onPacket is one message of a master, or its end.
func (k *keeper) onPacket(ev packetEvent) {
	s := ev.from
	switch {
	case s == nil && ev.packet != nil:
		k.onHello(*ev.packet)
		return
	case ev.cut:
		k.onCut(s)
		return
	case s == nil && ev.paused:
		k.doorPaused = true
		return
	case s == nil:
		k.doorBroken = true
		k.log.Error("keeper: the door is broken, no reload will work")
		return
	case ev.paused:
		s.paused = true
		return
	case ev.packet == nil:
		k.onEnd(s)
		return
	}
	defer ev.packet.Close()
	if err := k.onMessage(s, ev.packet); err != nil {
		k.log.Error("keeper: message of a master", "pid", s.pid, "kind", ev.packet.Frame.T, "error", err)
	}
}

// onMessage gives a message to the one that listens in this phase.
func (k *keeper) onMessage(s *session, p *seqpacket.Packet) error {
	switch s.phase {
	case phaseFirst, phaseRestart, phaseSuccessor, phaseCommitted, phaseCurrent:
		return k.handle(s, p)
	case phaseSuperseded:
		k.onLateWord(s, p)
	case phaseFailed:
		s.undo(p)
		if p.Frame.T == (wire.Commit{}).Kind() {
			return wire.On(p.Frame, func(m wire.Commit) { k.onCommit(s, m) })
		}
	case phaseDoor, phaseLeft, phaseGone:
	}
	return nil
}

// onCut: a message of a master, or of one who is at the door, was lost because we have too many open files. An attempt ends
// with it; a master goes on, and what it wanted to store does not outlive it.
func (k *keeper) onCut(s *session) {
	k.log.Error("keeper: out of descriptors, a message was lost", "error", seqpacket.ErrCut)
	if k.attempt == nil || s != nil && s != k.attempt.successor {
		return
	}
	k.attempt.blame("the keeper is out of file descriptors")
	if s != nil {
		k.abandonSuccessor()
	}
}

// handle answers one message. What it does not know is dropped: it may be a newer release's.
func (k *keeper) handle(s *session, p *seqpacket.Packet) error {
	f := p.Frame
	switch f.T {
	case wire.Put{}.Kind():
		return k.onPut(s, p)
	case wire.Drop{}.Kind():
		return wire.On(f, func(m wire.Drop) { k.onDrop(s, m) })
	case wire.Preparing{}.Kind():
		return wire.On(f, func(m wire.Preparing) { k.onPreparing(s, m) })
	case wire.Commit{}.Kind():
		return wire.On(f, func(m wire.Commit) { k.onCommit(s, m) })
	case wire.Serving{}.Kind():
		return wire.On(f, func(m wire.Serving) { k.onServing(s, m) })
	case wire.Compared{}.Kind():
		k.onCompared(s)
	case wire.Fail{}.Kind():
		return wire.On(f, func(m wire.Fail) { k.onFail(s, m) })
	case wire.Upgrading{}.Kind():
		return wire.On(f, func(m wire.Upgrading) { k.onUpgrading(s, m) })
	case wire.UpgradeFailed{}.Kind():
		return wire.On(f, k.onUpgradeFailed)
	case wire.Request{}.Kind():
		return wire.On(f, func(m wire.Request) { k.request(m.Source, true) })
	case wire.Oldest{}.Kind():
		return wire.On(f, k.onOldest)
	case wire.Cut{}.Kind():
		return wire.On(f, k.onWorkerCut)
	case wire.Reopened{}.Kind():
		s.reopens--
	case wire.StatusAnswer{}.Kind():
		var m wire.StatusAnswer
		if err := f.Into(&m); err != nil {
			return err
		}
		return k.onStatus(m, p)
	case wire.Gone{}.Kind():
		return wire.On(f, func(m wire.Gone) { k.onGoneQuestion(m.PID) })
	case wire.Kill{}.Kind():
		return wire.On(f, func(m wire.Kill) { k.onKill(m.PID) })
	}
	return nil
}

func (k *keeper) onDrop(s *session, m wire.Drop) {
	if k.attempt != nil {
		k.attempt.forget(WorkerPID(m.Name))
	}
	k.change(s, change{name: m.Name, drop: true})
}

// onFail: the sender says why it is about to exit.
func (k *keeper) onFail(s *session, m wire.Fail) {
	if s.phase == phaseSuccessor {
		k.attempt.blame(m.Error)
	}
	s.lastWord = m.Error
	if k.generation == 0 {
		k.sayStartFailed(m.Error)
	}
}

func (k *keeper) onKill(pid int) {
	if isChild(pid) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

func (k *keeper) onPut(s *session, p *seqpacket.Packet) error {
	var m wire.Put
	if err := p.Frame.Into(&m); err != nil {
		return err
	}
	if pid := WorkerPID(m.Name); pid > 0 && s.phase == phaseSuccessor {
		k.attempt.workers = append(k.attempt.workers, pid)
	}
	k.change(s, change{name: m.Name, e: entry{data: m.Data, unlink: m.Unlink, undo: m.Undo, fd: p.TakeFD()}})
	if s == k.current {
		k.resized(m.Resized, m.Failed)
	}
	return nil
}

// change is staged for a successor, and true at once for the master.
func (k *keeper) change(s *session, c change) {
	s.staged = append(s.staged, c)
	switch {
	case s == k.current:
		k.applyStaged(s)
	case s.phase == phaseFirst && c.name == EntryControl && !c.drop:
		k.serveControl(c.e) // who asks before anything serves is told so
	}
}

func (k *keeper) applyStaged(s *session) {
	log, control := false, false
	for _, c := range s.staged {
		log = log || c.name == EntryLog
		control = control || c.name == EntryControl
	}
	s.staged.apply(k.store)
	s.staged = nil
	if log {
		k.switchLog()
	}
	if control {
		k.switchControl()
	}
}

// switchControl answers on the control socket of the store, or on none.
func (k *keeper) switchControl() {
	e, ok := k.store[EntryControl]
	if !ok {
		e.fd = -1
	}
	k.serveControl(e)
}

// planRestart plans the next start of a master, after one that has served for so long.
func (k *keeper) planRestart(served time.Duration) {
	k.deaths++
	k.starting = nil
	k.dl.restart = time.Now().Add(k.backoff.Next(served))
	k.sayStatus()
}

// restartMaster starts a master, or ends one that was started and has not taken over in time.
func (k *keeper) restartMaster() {
	switch {
	case k.stopping || k.current != nil:
	case k.starting != nil:
		k.tooLate(k.starting)
	default:
		k.restarts++
		if err := k.startMaster(); err != nil {
			k.log.Error("keeper: restart", "error", err)
			k.lastDeath = err.Error()
			k.planRestart(0)
			return
		}
		k.lastDeath, k.lost = "", k.starting.pid
		k.dl.restart = time.Now().Add(restartLimit)
	}
}

// kill kills a master, whoever's child it is.
func (k *keeper) kill(s *session) {
	switch {
	case s.pidfd >= 0:
		_ = unix.PidfdSendSignal(s.pidfd, unix.SIGKILL, nil, 0)
	case isChild(s.pid):
		_ = unix.Kill(s.pid, unix.SIGKILL)
	}
}

// reap collects the dead and tells whom it concerns. It reports whether there is no child left.
func (k *keeper) reap() (none bool) {
	none = reap(k.onReaped)
	if k.killing && !none {
		killChildren()
	}
	return none
}

func (k *keeper) onReaped(pid int, ws unix.WaitStatus) {
	if _, worker := k.store[WorkerEntry(pid)]; worker && k.current == nil && !k.stopping {
		k.dead[pid] = ws // the next master is to read what it said last, and asks then
		return
	}
	k.store.drop(WorkerEntry(pid))
	k.leaving = slices.DeleteFunc(k.leaving, func(p int) bool { return p == pid })
	if k.attempt != nil {
		k.attempt.forget(pid)
	}
	k.post(wire.Exited{PID: pid, Status: uint32(ws), Known: true})
	if k.current == nil && k.lost == pid && k.lastDeath == "" {
		k.lastDeath = describe(ws)
	}
	s := k.masterOf(pid)
	switch {
	case s != nil:
		k.masterReaped(s, ws)
	case k.follow.pid == pid:
		k.dryRunEnded(ws)
	}
}

// masters lists those that start, serve, or are about to go.
func (k *keeper) masters() []*session {
	all := []*session{k.starting, k.current, k.old}
	if k.attempt != nil {
		all = append(all, k.attempt.successor)
	}
	return slices.DeleteFunc(all, func(s *session) bool { return s == nil })
}

// masterOf finds a process among them; nil: it is none.
func (k *keeper) masterOf(pid int) *session {
	for _, s := range k.masters() {
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
func (k *keeper) onGoneQuestion(pid int) {
	ws, died := k.dead[pid]
	if !died && isChild(pid) {
		return
	}
	delete(k.dead, pid)
	k.store.drop(WorkerEntry(pid))
	k.post(wire.Exited{PID: pid, Status: uint32(ws), Known: died})
}

// switchLog makes the keeper log where the master says.
func (k *keeper) switchLog() {
	e := k.store[EntryLog]
	k.log = logsink.Logger(k.sink, e.data)
	fd := 2
	if e.fd >= 0 {
		d, err := seqpacket.Dup(e.fd)
		if err != nil {
			k.log.Error("keeper: log", "error", err)
			return
		}
		fd = d
	}
	k.sink.SetFD(fd)
}
