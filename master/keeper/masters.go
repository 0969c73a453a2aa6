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

// admit decides what the process is.
func (k *keeper) admit(s *session, f wire.Frame) error {
	var hello wire.Hello
	if err := f.Check(); err != nil {
		return err
	}
	if err := f.Into(&hello); err != nil {
		return err
	}
	switch {
	case k.stopping:
		return fmt.Errorf("stopping")
	case k.current == nil && k.starting == s.pid && k.generation == 0:
		s.role = wire.RoleFirst
	case k.current == nil && k.starting == s.pid:
		s.role = wire.RoleRestart
	case k.attempt != nil && hello.Attempt == k.attempt.id && k.attempt.successor == nil && k.attempt.phase != attemptKilled:
		s.role = wire.RoleSuccessor
		k.attempt.successor = s
		k.attempt.seen = k.count // it has not read its config yet
		k.sayReloading()
	default:
		return fmt.Errorf("nobody waits for a master of attempt %q", hello.Attempt)
	}
	return nil
}

func (k *keeper) welcome(s *session) {
	w := wire.Welcome{
		Role: s.role, Generation: k.generation, Seen: k.count, KeeperPID: k.pid,
		Started: k.started.Unix(), Restarts: k.restarts, Stores: k.systemd.store.max > 0,
	}
	if s.role != wire.RoleRestart {
		w.Generation++
	}
	_ = s.conn.Post(w)
	k.store.send(s.conn, "")
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
		k.onGone(s)
		return
	}
	defer ev.packet.Close()
	if s.failed {
		s.undo(ev.packet)
	}
	if s.superseded {
		if s == k.old && !s.left {
			k.onLateWord(ev.packet)
		}
		return
	}
	if err := k.handle(s, ev.packet); err != nil {
		k.log.Error("keeper: message of a master", "pid", s.pid, "kind", ev.packet.Frame.T, "error", err)
	}
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

// onLateWord is what a superseded master had still to say: it left, and what it has counted since the COMMIT.
func (k *keeper) onLateWord(p *seqpacket.Packet) {
	var m wire.Put
	switch p.Frame.T {
	case wire.Left{}.Kind():
		k.old.left = true
		k.announceAlone()
	case wire.Cut{}.Kind():
		_ = wire.On(p.Frame, k.onWorkerCut)
	case m.Kind():
		if len(p.FDs) == 0 && p.Frame.Into(&m) == nil && m.Name == EntryStats {
			k.store.put(m.Name, entry{data: m.Data, fd: -1})
		}
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
	if k.attempt != nil && k.attempt.successor == s {
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
	if pid := WorkerPID(m.Name); pid > 0 && k.attempt != nil && k.attempt.successor == s {
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
	case s.role == wire.RoleFirst && c.name == EntryControl && !c.drop:
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

// onGone: a master's end of the session was closed. It may live on for a moment.
func (k *keeper) onGone(s *session) {
	_ = s.conn.Close()
	s.gone = true
	k.live--
	if isChild(s.pid) {
		k.leaving = append(k.leaving, s.pid)
	}
	switch {
	case k.attempt != nil && k.attempt.successor == s:
		k.attempt.successor = nil
		k.attempt.phase = attemptKilled
	case s == k.current:
		k.masterLost(s)
	case s == k.old && !isChild(s.pid):
		k.oldGone() // it was reaped before it was superseded
	case s.pid == k.lost && s.lastWord != "":
		k.lastDeath = s.lastWord
	}
	if s != k.old { // else it may still have to be killed
		s.letGo()
	}
	s.staged.discard()
	s.staged = nil
}

// masterLost: the current master is dead, or as good as dead, for it has closed its session.
func (k *keeper) masterLost(s *session) {
	k.current = nil
	k.deaths, k.lastDeath, k.lost = 0, s.end, s.pid
	k.moved = time.Now()
	k.untellResizes()
	k.reopen = k.reopen || s.reopens > 0
	k.loseAttempt(s)
	k.lastTimeouts = s.timeouts
	if k.stopping {
		return
	}
	k.kill(s)
	k.log.Error("keeper: the master died, its workers serve on", "pid", s.pid)
	k.planRestart(time.Since(k.masterSince))
}

// loseAttempt ends the attempt of a master that is dead. One that it has not begun is the next master's.
func (k *keeper) loseAttempt(s *session) {
	switch a := k.attempt; {
	case a == nil:
	case a.phase == attemptAsked:
		k.attempt = nil
		k.dl.attempt = time.Time{}
	default:
		a.blame(fmt.Sprintf("the master (pid %d) died", s.pid))
		k.abandonSuccessor()
		k.failAttempt()
	}
}

// planRestart plans the next start of a master, after one that has served for so long.
func (k *keeper) planRestart(served time.Duration) {
	k.deaths++
	k.starting = 0
	k.dl.restart = time.Now().Add(k.backoff.Next(served))
	k.sayStatus()
}

// restartMaster starts a master, or ends one that was started and has not taken over in time.
func (k *keeper) restartMaster() {
	switch {
	case k.stopping || k.current != nil:
	case k.starting != 0:
		k.lastDeath = "not ready in time"
		_ = unix.Kill(k.starting, unix.SIGKILL) // our child, and not reaped
	default:
		k.restarts++
		if err := k.startMaster(); err != nil {
			k.log.Error("keeper: restart", "error", err)
			k.lastDeath = err.Error()
			k.planRestart(0)
			return
		}
		k.lastDeath, k.lost = "", k.starting
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
	switch {
	case k.current != nil && k.current.pid == pid:
		k.current.end = describe(ws) // its last words come first
	case k.lost == pid && k.lastDeath == "":
		k.lastDeath = describe(ws)
	}
	switch {
	case k.follow.pid == pid:
		k.dryRunEnded(ws)
	case k.old != nil && k.old.pid == pid:
		k.oldGone()
	case k.starting == pid && !k.stopping:
		k.startFailed(pid, ws)
	}
}

// startFailed: a master that we started ended before it had taken over.
func (k *keeper) startFailed(pid int, ws unix.WaitStatus) {
	if k.generation > 0 {
		k.log.Error("keeper: the restarted master died", "pid", pid, "status", describe(ws))
		k.planRestart(0)
		return
	}
	k.starting = 0
	k.exit = exitSystem
	switch {
	case ws.Exited() && ws.ExitStatus() != 0:
		k.exit = ws.ExitStatus()
	default:
		k.log.Error("keeper: the first master ended before it served", "pid", pid, "status", describe(ws))
	}
	k.stopping = true
	k.killAll("the first master has failed")
}

func describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal " + ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}

// oldGone: the superseded master has ended.
func (k *keeper) oldGone() {
	k.old.letGo()
	k.old = nil
	k.dl.old = time.Time{}
	k.announceAlone() // unless it had left before
}

// announceAlone tells the master that no predecessor meddles any more, and gives it what the predecessor may have
// changed since the welcome: the workers, and the counts.
func (k *keeper) announceAlone() {
	s := k.current
	if s == nil || s.alone || k.old != nil && !k.old.left {
		return
	}
	s.alone = true
	_ = s.conn.Post(wire.Alone{})
	k.store.send(s.conn, EntryWorker+"/", EntryStats, EntryCount)
	k.tellResizes()
	if k.reopen {
		k.reopen = false
		k.tellReopen()
	}
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
