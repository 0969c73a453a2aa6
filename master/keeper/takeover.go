package keeper

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// phase is how far the conversation with a master has come. What an event does in it:
//
//	phase       hello             COMMIT asked            deadline            end-of-file             reaped
//	door        first, restart,   -                       -                   -                       -
//	            successor, or
//	            refuse
//	first       refuse            current, generation 1   -                   -                       exit with its code
//	restart     refuse            current, same           kill                -                       restart, with back-off
//	                              generation
//	successor   refuse            committed; the old one  kill; the attempt   gone; the attempt       -
//	                              is superseded           is to fail          is to fail
//	committed   refuse            refuse                  -                   gone; restart; the      note how it ended
//	                                                                          attempt failed
//	current     refuse            refuse                  -                   as committed            as committed
//	superseded  refuse            -                       kill                gone, once reaped       gone; alone
//	left        refuse            -                       kill                gone, once reaped       gone; alone
//	failed      refuse            refuse                  -                   gone                    -
//	gone        -                 -                       -                   -                       -
//
// The columns are admit, onCommit, tooLate, onEnd and masterReaped. An attempt that fails makes failed of its successor,
// see [keeper.failAttempt], and what is staged in a conversation that ends before COMMIT is undone.
//
// Five events after COMMIT complete a takeover:
//
//	Committed      to the successor     it gives its workers GO and tells its predecessor (tableflip's Ready)
//	Superseded     to the predecessor   its workers are its successor's
//	Serving        of the successor     its sockets listen, its workers accept; may come at any time from here on
//	Left, or exit  of the predecessor   it changes nothing any more; superseded becomes left, or gone
//	alone          to the successor     committed becomes current: it gets the workers, and what was held back meanwhile
type phase uint8

const (
	phaseDoor       phase = iota // it has not said hello
	phaseFirst                   // starts; nothing serves yet
	phaseRestart                 // starts; the workers of one that died serve
	phaseSuccessor               // starts beside the current one
	phaseCommitted               // the master; its predecessor may still be there
	phaseCurrent                 // the master; nobody else meddles
	phaseSuperseded              // another one is the master; nothing that it says counts any more, but see onLateWord
	phaseLeft                    // superseded, and about to exit
	phaseFailed                  // its attempt has failed; what it puts is undone
	phaseGone                    // end-of-file was read
)

// supersededLimit is how long a master may take to exit after COMMIT.
const supersededLimit = time.Second

// role is what a master is told that it is.
func (p phase) role() string {
	switch p {
	case phaseFirst:
		return wire.RoleFirst
	case phaseRestart:
		return wire.RoleRestart
	case phaseSuccessor:
		return wire.RoleSuccessor
	case phaseDoor, phaseCommitted, phaseCurrent, phaseSuperseded, phaseLeft, phaseFailed, phaseGone:
	}
	return ""
}

// admit decides what a process at the door is.
func (k *keeper) admit(s *session, f wire.Frame) error {
	var hello wire.Hello
	if err := f.Check(); err != nil {
		return err
	}
	if err := f.Into(&hello); err != nil {
		return err
	}
	a := k.attempt
	switch {
	case k.stopping:
		return fmt.Errorf("stopping")
	case k.current == nil && k.starting != nil && k.starting.pid == s.pid && k.starting.conn == nil:
		s.phase = k.starting.phase
		s.seen = k.seenBy(s, 0)
		k.starting = s
	case a != nil && hello.Attempt == a.id && a.successor == nil && a.phase < attemptKilled:
		s.phase = phaseSuccessor
		a.successor = s
		a.seen = k.seenBy(s, a.seen)
		s.seen = a.seen
		k.sayReloading()
	default:
		return fmt.Errorf("nobody waits for a master of attempt %q", hello.Attempt)
	}
	return nil
}

// seenBy returns how many reload requests a master serves that says hello, when before had come before it was executed.
func (k *keeper) seenBy(s *session, before int64) int64 {
	return seenAtHello(before, k.count, statFile(fmt.Sprintf("/proc/%d/exe", s.pid)), statFile(k.args[0]))
}

// seenAtHello returns before or now. The master has not read its config yet, so that it serves what has been asked for until
// now; but if the executable at its path is not the one that it runs, it was replaced since, perhaps by those who asked, and
// only what came before the exec is served.
func seenAtHello(before, now int64, runs, there fileID) int64 {
	if runs != there || runs == (fileID{}) {
		return before
	}
	return now
}

func (k *keeper) welcome(s *session) {
	w := wire.Welcome{
		Role: s.phase.role(), Generation: k.generation, Seen: s.seen, KeeperPID: k.pid,
		Started: k.started.Unix(), Restarts: k.restarts, Stores: k.systemd.store.max > 0,
	}
	if s.phase != phaseRestart {
		w.Generation++
	}
	_ = s.conn.Post(w)
	k.store.send(s.conn, "")
}

// onCommit is the one point of truth: before it nothing has happened, after it nothing can be undone by a death.
func (k *keeper) onCommit(s *session, m wire.Commit) {
	refuse := func(why string) { _ = s.conn.Post(wire.Refused{Error: why}) }
	a := k.attempt
	switch s.phase {
	case phaseFirst, phaseRestart:
		switch {
		case k.stopping:
			refuse("stopping")
		case k.starting != s: // it has ended
			refuse("another process is the master")
		default:
			k.commitStarted(s, m)
		}
	case phaseSuccessor:
		switch {
		case k.stopping:
			refuse("stopping")
		case a.phase >= attemptKilled || a.sponsor != k.current:
			refuse("the reload was given up")
		default:
			k.commitSuccessor(s, m)
		}
	case phaseCommitted, phaseCurrent:
		refuse("another process is the master")
	case phaseFailed:
		refuse("the reload was given up")
	case phaseDoor, phaseSuperseded, phaseLeft, phaseGone:
	}
}

// commitStarted: the first master, or a restarted one, is ready.
func (k *keeper) commitStarted(s *session, m wire.Commit) {
	k.starting = nil
	k.dl.restart = time.Time{}
	if s.phase == phaseFirst {
		k.generation++
		k.served = m.Seen // a HUP since then came too late for the config that it has read
	}
	k.masterSince = time.Now()
	k.makeCurrent(s)
	k.announceAlone()
}

// commitSuccessor swaps the masters. The one that hands over has not died: its time counts for the next one.
func (k *keeper) commitSuccessor(s *session, m wire.Commit) {
	old := k.current
	k.attempt = nil
	k.dl.attempt = time.Time{}
	k.generation++
	k.makeCurrent(s)
	k.noteExe()
	k.publish(result{Seen: m.Seen, OK: true})
	_ = old.conn.Post(wire.Superseded{})
	old.phase = phaseSuperseded
	k.old = old
	k.dl.old = time.Now().Add(supersededLimit)
}

func (k *keeper) makeCurrent(s *session) {
	s.phase = phaseCommitted
	k.current, k.moved = s, time.Now()
	k.lastTimeouts = s.timeouts
	k.applyStaged(s)
	_ = s.conn.Post(wire.Committed{Generation: k.generation})
}

// onLateWord is what a superseded master had still to say: it left, and what it has counted since the COMMIT.
func (k *keeper) onLateWord(s *session, p *seqpacket.Packet) {
	var m wire.Put
	switch p.Frame.T {
	case wire.Left{}.Kind():
		s.phase = phaseLeft
		k.announceAlone()
	case wire.Cut{}.Kind():
		_ = wire.On(p.Frame, k.onWorkerCut)
	case m.Kind():
		if len(p.FDs) == 0 && p.Frame.Into(&m) == nil && m.Name == EntryStats {
			k.store.put(m.Name, entry{data: m.Data, fd: -1})
		}
	}
}

// announceAlone tells the master that no predecessor meddles any more, and gives it what the predecessor may have
// changed since the welcome: the workers, and the counts.
func (k *keeper) announceAlone() {
	s := k.current
	if s == nil || s.phase != phaseCommitted || k.old != nil && k.old.phase != phaseLeft {
		return
	}
	s.phase = phaseCurrent
	_ = s.conn.Post(wire.Alone{})
	k.store.send(s.conn, EntryWorker+"/", EntryStats, EntryCount)
	k.tellResizes()
	if k.reopen {
		k.reopen = false
		k.tellReopen()
	}
}

// tooLate: a master has had the time that it has in its phase.
func (k *keeper) tooLate(s *session) {
	switch s.phase {
	case phaseRestart:
		k.lastDeath = "not ready in time"
		k.kill(s)
	case phaseSuccessor:
		k.giveUpSuccessor()
	case phaseSuperseded, phaseLeft:
		k.log.Warn("keeper: the superseded master has not gone, killing it", "pid", s.pid)
		k.kill(s)
	case phaseDoor, phaseFirst, phaseCommitted, phaseCurrent, phaseFailed, phaseGone: // have all the time they want
	}
}

// attemptTimeout: the attempt has had its time. If nothing is heard of its end either, it is given up as it is.
func (k *keeper) attemptTimeout() {
	a := k.attempt
	switch {
	case a == nil:
	case a.phase == attemptAsked:
		a.blame(k.silence(a.sponsor))
		k.failAttempt()
	case a.phase >= attemptKilled:
		k.failAttempt()
	case a.successor != nil:
		k.tooLate(a.successor)
	default: // it has not come to the door
		k.giveUpSuccessor()
	}
}

// giveUpSuccessor kills what has not been ready in time, and waits for its end a moment longer.
func (k *keeper) giveUpSuccessor() {
	k.attempt.blame(fmt.Sprintf("not ready within %v", k.attempt.limit))
	k.abandonSuccessor()
	k.dl.attempt = time.Now().Add(time.Second)
}

// abandonSuccessor kills the successor, and whatever else carries the attempt's mark.
func (k *keeper) abandonSuccessor() {
	a := k.attempt
	a.phase = attemptKilled
	if s := a.successor; s != nil {
		k.kill(s)
	}
	killAttempt(a.id, a.workers)
}

// failAttempt ends the attempt: nothing of it is left, and the result is known.
func (k *keeper) failAttempt() {
	a := k.dropAttempt()
	a.blame(a.fallback)
	killAttempt(a.id, a.workers)
	k.log.Error("keeper: reload failed, nothing has changed", "error", a.reason)
	k.publish(result{Seen: a.seen, Error: a.reason})
	k.moved = time.Now()
	k.reopen = k.reopen && k.current == nil // else the master has done so
	k.tellResizes()
	k.sayReady()
}

// dropAttempt forgets the attempt. Nothing that its successor says counts any more.
func (k *keeper) dropAttempt() *attempt {
	a := k.attempt
	k.attempt = nil
	k.dl.attempt = time.Time{}
	if s := a.successor; s != nil {
		s.phase = phaseFailed
		s.discard()
	}
	return a
}

// onEnd: a master's end of the conversation was closed. The process may live on for a moment.
func (k *keeper) onEnd(s *session) {
	_ = s.conn.Close()
	k.live--
	if isChild(s.pid) {
		k.leaving = append(k.leaving, s.pid)
	}
	s.discard()
	if s.pid == k.lost && s.lastWord != "" {
		k.lastDeath = s.lastWord
	}
	switch s.phase {
	case phaseSuccessor:
		s.phase = phaseGone
		k.successorGone()
	case phaseCommitted, phaseCurrent:
		s.phase = phaseGone
		k.masterLost(s)
	case phaseSuperseded, phaseLeft:
		if isChild(s.pid) {
			return // it may still have to be killed
		}
		k.oldGone() // it was reaped before it was superseded
	case phaseFailed:
		s.phase = phaseGone
	case phaseDoor, phaseFirst, phaseRestart, phaseGone: // those that start are reaped
	}
	s.letGo()
}

// successorGone: the sponsor says so as well, and the later of the two fails the attempt.
func (k *keeper) successorGone() {
	a := k.attempt
	a.successor = nil
	if a.phase == attemptEnded {
		k.failAttempt()
		return
	}
	a.phase = attemptKilled
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
		k.dropAttempt()
	default:
		a.blame(fmt.Sprintf("the master (pid %d) died", s.pid))
		k.abandonSuccessor()
		k.failAttempt()
	}
}

// masterReaped: a master that has a phase has ended.
func (k *keeper) masterReaped(s *session, ws unix.WaitStatus) {
	switch s.phase {
	case phaseFirst:
		k.startFailed(s, ws)
	case phaseRestart:
		k.restartFailed(s, ws)
	case phaseCommitted, phaseCurrent:
		s.end = describe(ws) // its last words come first
	case phaseSuperseded, phaseLeft:
		k.oldGone()
	case phaseDoor, phaseSuccessor, phaseFailed, phaseGone: // end-of-file comes, or has come
	}
}

// startFailed: the first master has ended, and that is the end.
func (k *keeper) startFailed(s *session, ws unix.WaitStatus) {
	if k.stopping {
		return
	}
	k.starting = nil
	k.exit = exitSystem
	if ws.Exited() && ws.ExitStatus() != 0 {
		k.exit = ws.ExitStatus()
	} else {
		k.log.Error("keeper: the first master ended before it served", "pid", s.pid, "status", describe(ws))
	}
	k.stopping = true
	k.killAll("the first master has failed")
}

// restartFailed: a master that was started again has ended before it had taken over.
func (k *keeper) restartFailed(s *session, ws unix.WaitStatus) {
	if k.stopping {
		return
	}
	k.log.Error("keeper: the restarted master died", "pid", s.pid, "status", describe(ws))
	k.planRestart(0)
}

// oldGone: the superseded master has ended.
func (k *keeper) oldGone() {
	k.old.letGo()
	k.old.phase = phaseGone
	k.old = nil
	k.dl.old = time.Time{}
	k.announceAlone() // unless it had left before
}
