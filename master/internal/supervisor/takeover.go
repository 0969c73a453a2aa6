package supervisor

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
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
// see [supervisor.failAttempt], and what is staged in a conversation that ends before COMMIT is undone.
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
		return message.RoleFirst
	case phaseRestart:
		return message.RoleRestart
	case phaseSuccessor:
		return message.RoleSuccessor
	case phaseDoor, phaseCommitted, phaseCurrent, phaseSuperseded, phaseLeft, phaseFailed, phaseGone:
	}
	return ""
}

// admit decides what a process at the door is.
func (sv *supervisor) admit(s *session, f wire.Frame) error {
	var hello message.Hello
	if err := f.Check(); err != nil {
		return err
	}
	if err := f.Into(&hello); err != nil {
		return err
	}
	a := sv.attempt
	switch {
	case sv.stopping:
		return fmt.Errorf("stopping")
	case sv.current == nil && sv.starting != nil && sv.starting.pid == s.pid && sv.starting.conn == nil:
		s.phase = sv.starting.phase
		s.seen = sv.seenBy(s, 0)
		sv.starting = s
	case a != nil && hello.Attempt == a.id && a.successor == nil && a.phase < attemptKilled:
		s.phase = phaseSuccessor
		a.successor = s
		a.seen = sv.seenBy(s, a.seen)
		s.seen = a.seen
		sv.sayReloading()
	default:
		return fmt.Errorf("nobody waits for a master of attempt %q", hello.Attempt)
	}
	return nil
}

// seenBy returns how many reload requests a master serves that says hello, when before had come before it was executed.
func (sv *supervisor) seenBy(s *session, before int64) int64 {
	return seenAtHello(before, sv.count, statFile(fmt.Sprintf("/proc/%d/exe", s.pid)), statFile(sv.args[0]))
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

func (sv *supervisor) welcome(s *session) {
	w := message.Welcome{
		Role: s.phase.role(), Generation: sv.generation, Seen: s.seen, SupervisorPID: sv.pid,
		Started: sv.started.Unix(), Restarts: sv.restarts, FDStore: sv.systemd.store.max > 0,
	}
	if s.phase != phaseRestart {
		w.Generation++
	}
	_ = s.conn.Post(w)
	sv.registry.send(s.conn, "")
}

// onCommit is the one point of truth: before it nothing has happened, after it nothing can be undone by a death.
func (sv *supervisor) onCommit(s *session, m message.Commit) {
	refuse := func(why string) { _ = s.conn.Post(message.Refused{Error: why}) }
	a := sv.attempt
	switch s.phase {
	case phaseFirst, phaseRestart:
		switch {
		case sv.stopping:
			refuse("stopping")
		case sv.starting != s: // it has ended
			refuse("another process is the master")
		default:
			sv.commitStarted(s, m)
		}
	case phaseSuccessor:
		switch {
		case sv.stopping:
			refuse("stopping")
		case a.phase >= attemptKilled || a.sponsor != sv.current:
			refuse("the reload was given up")
		default:
			sv.commitSuccessor(s, m)
		}
	case phaseCommitted, phaseCurrent:
		refuse("another process is the master")
	case phaseFailed:
		refuse("the reload was given up")
	case phaseDoor, phaseSuperseded, phaseLeft, phaseGone:
	}
}

// commitStarted: the first master, or a restarted one, is ready.
func (sv *supervisor) commitStarted(s *session, m message.Commit) {
	sv.starting = nil
	sv.dl.restart = time.Time{}
	if s.phase == phaseFirst {
		sv.generation++
		sv.served = m.Seen // a HUP since then came too late for the config that it has read
	}
	sv.masterSince = time.Now()
	sv.makeCurrent(s)
	sv.announceAlone()
}

// commitSuccessor swaps the masters. The one that hands over has not died: its time counts for the next one.
func (sv *supervisor) commitSuccessor(s *session, m message.Commit) {
	old := sv.current
	sv.attempt = nil
	sv.dl.attempt = time.Time{}
	sv.generation++
	sv.makeCurrent(s)
	sv.noteExe()
	sv.publish(result{Seen: m.Seen, OK: true})
	_ = old.conn.Post(message.Superseded{})
	old.phase = phaseSuperseded
	sv.old = old
	sv.dl.old = time.Now().Add(supersededLimit)
}

func (sv *supervisor) makeCurrent(s *session) {
	s.phase = phaseCommitted
	sv.current, sv.moved = s, time.Now()
	sv.lastTimeouts = s.timeouts
	sv.applyStaged(s)
	_ = s.conn.Post(message.Committed{Generation: sv.generation})
}

// onLateWord is what a superseded master had still to say: it left, and what it has counted since the COMMIT.
func (sv *supervisor) onLateWord(s *session, p *seqpacket.Packet) {
	var m message.Put
	switch p.Frame.T {
	case message.Leaving{}.Kind():
		s.phase = phaseLeft
		sv.announceAlone()
	case message.Cut{}.Kind():
		_ = wire.On(p.Frame, sv.onWorkerCut)
	case m.Kind():
		if len(p.FDs) == 0 && p.Frame.Into(&m) == nil && m.Name == EntryStats {
			sv.registry.put(m.Name, entry{data: m.Data, fd: -1})
		}
	}
}

// announceAlone tells the master that no predecessor meddles any more, and gives it what the predecessor may have
// changed since the welcome: the workers, and the counts.
func (sv *supervisor) announceAlone() {
	s := sv.current
	if s == nil || s.phase != phaseCommitted || sv.old != nil && sv.old.phase != phaseLeft {
		return
	}
	s.phase = phaseCurrent
	_ = s.conn.Post(message.TakeoverComplete{})
	sv.registry.send(s.conn, EntryWorker+"/", EntryStats, EntryCount)
	sv.tellResizes()
	if sv.reopen {
		sv.reopen = false
		sv.tellReopen()
	}
}

// tooLate: a master has had the time that it has in its phase.
func (sv *supervisor) tooLate(s *session) {
	switch s.phase {
	case phaseRestart:
		sv.lastDeath = "not ready in time"
		sv.kill(s)
	case phaseSuccessor:
		sv.giveUpSuccessor()
	case phaseSuperseded, phaseLeft:
		sv.log.Warn("supervisor: the superseded master has not gone, killing it", "pid", s.pid)
		sv.kill(s)
	case phaseDoor, phaseFirst, phaseCommitted, phaseCurrent, phaseFailed, phaseGone: // have all the time they want
	}
}

// attemptTimeout: the attempt has had its time. If nothing is heard of its end either, it is given up as it is.
func (sv *supervisor) attemptTimeout() {
	a := sv.attempt
	switch {
	case a == nil:
	case a.phase == attemptAsked:
		a.blame(sv.silence(a.sponsor))
		sv.failAttempt()
	case a.phase >= attemptKilled:
		sv.failAttempt()
	case a.successor != nil:
		sv.tooLate(a.successor)
	default: // it has not come to the door
		sv.giveUpSuccessor()
	}
}

// giveUpSuccessor kills what has not been ready in time, and waits for its end a moment longer.
func (sv *supervisor) giveUpSuccessor() {
	sv.attempt.blame(fmt.Sprintf("not ready within %v", sv.attempt.limit))
	sv.abandonSuccessor()
	sv.dl.attempt = time.Now().Add(time.Second)
}

// abandonSuccessor kills the successor, and whatever else carries the attempt's mark.
func (sv *supervisor) abandonSuccessor() {
	a := sv.attempt
	a.phase = attemptKilled
	if s := a.successor; s != nil {
		sv.kill(s)
	}
	killAttempt(a.id, a.workers)
}

// failAttempt ends the attempt: nothing of it is left, and the result is known.
func (sv *supervisor) failAttempt() {
	a := sv.dropAttempt()
	a.blame(a.fallback)
	killAttempt(a.id, a.workers)
	sv.log.Error("supervisor: reload failed, nothing has changed", "error", a.reason)
	sv.publish(result{Seen: a.seen, Error: a.reason})
	sv.moved = time.Now()
	sv.reopen = sv.reopen && sv.current == nil // else the master has done so
	sv.tellResizes()
	sv.sayReady()
}

// dropAttempt forgets the attempt. Nothing that its successor says counts any more.
func (sv *supervisor) dropAttempt() *attempt {
	a := sv.attempt
	sv.attempt = nil
	sv.dl.attempt = time.Time{}
	if s := a.successor; s != nil {
		s.phase = phaseFailed
		s.discard()
	}
	return a
}

// onEnd: a master's end of the conversation was closed. The process may live on for a moment.
func (sv *supervisor) onEnd(s *session) {
	_ = s.conn.Close()
	sv.live--
	if isChild(s.pid) {
		sv.leaving = append(sv.leaving, s.pid)
	}
	s.discard()
	if s.pid == sv.lost && s.lastWord != "" {
		sv.lastDeath = s.lastWord
	}
	switch s.phase {
	case phaseSuccessor:
		s.phase = phaseGone
		sv.successorGone()
	case phaseCommitted, phaseCurrent:
		s.phase = phaseGone
		sv.masterLost(s)
	case phaseSuperseded, phaseLeft:
		if isChild(s.pid) {
			return // it may still have to be killed
		}
		sv.oldGone() // it was reaped before it was superseded
	case phaseFailed:
		s.phase = phaseGone
	case phaseDoor, phaseFirst, phaseRestart, phaseGone: // those that start are reaped
	}
	s.letGo()
}

// successorGone: the sponsor says so as well, and the later of the two fails the attempt.
func (sv *supervisor) successorGone() {
	a := sv.attempt
	a.successor = nil
	if a.phase == attemptEnded {
		sv.failAttempt()
		return
	}
	a.phase = attemptKilled
}

// masterLost: the current master is dead, or as good as dead, for it has closed its session.
func (sv *supervisor) masterLost(s *session) {
	sv.current = nil
	sv.deaths, sv.lastDeath, sv.lost = 0, s.end, s.pid
	sv.moved = time.Now()
	sv.untellResizes()
	sv.reopen = sv.reopen || s.reopens > 0
	sv.loseAttempt(s)
	sv.lastTimeouts = s.timeouts
	if sv.stopping {
		return
	}
	sv.kill(s)
	sv.log.Error("supervisor: the master died, its workers serve on", "pid", s.pid)
	sv.planRestart(time.Since(sv.masterSince))
}

// loseAttempt ends the attempt of a master that is dead. One that it has not begun is the next master's.
func (sv *supervisor) loseAttempt(s *session) {
	switch a := sv.attempt; {
	case a == nil:
	case a.phase == attemptAsked:
		sv.dropAttempt()
	default:
		a.blame(fmt.Sprintf("the master (pid %d) died", s.pid))
		sv.abandonSuccessor()
		sv.failAttempt()
	}
}

// masterReaped: a master that has a phase has ended.
func (sv *supervisor) masterReaped(s *session, ws unix.WaitStatus) {
	switch s.phase {
	case phaseFirst:
		sv.startFailed(s, ws)
	case phaseRestart:
		sv.restartFailed(s, ws)
	case phaseCommitted, phaseCurrent:
		s.end = describe(ws) // its last words come first
	case phaseSuperseded, phaseLeft:
		sv.oldGone()
	case phaseDoor, phaseSuccessor, phaseFailed, phaseGone: // end-of-file comes, or has come
	}
}

// startFailed: the first master has ended, and that is the end.
func (sv *supervisor) startFailed(s *session, ws unix.WaitStatus) {
	if sv.stopping {
		return
	}
	sv.starting = nil
	sv.exit = exitSystem
	if ws.Exited() && ws.ExitStatus() != 0 {
		sv.exit = ws.ExitStatus()
	} else {
		sv.log.Error("supervisor: the first master ended before it served", "pid", s.pid, "status", describe(ws))
	}
	sv.stopping = true
	sv.killAll("the first master has failed")
}

// restartFailed: a master that was started again has ended before it had taken over.
func (sv *supervisor) restartFailed(s *session, ws unix.WaitStatus) {
	if sv.stopping {
		return
	}
	sv.log.Error("supervisor: the restarted master died", "pid", s.pid, "status", describe(ws))
	sv.planRestart(0)
}

// oldGone: the superseded master has ended.
func (sv *supervisor) oldGone() {
	sv.old.letGo()
	sv.old.phase = phaseGone
	sv.old = nil
	sv.dl.old = time.Time{}
	sv.announceAlone() // unless it had left before
}
