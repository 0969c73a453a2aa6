package supervisor

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/spawn"
	"baton/master/internal/supervisor/reexec"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// phase is how far the conversation with a master has come. What an event does in it:
//
//	phase       hello           COMMIT asked            deadline            end-of-file             reaped
//	new         first, restart, -                       -                   -                       -
//	            successor, or
//	            refuse
//	first       refuse          current, generation 1   -                   -                       exit with its code
//	restart     refuse          current, same           kill                -                       restart (back-off)
//	                            generation
//	successor   refuse          committed; the old one  kill; the attempt   gone; the attempt       -
//	                            is superseded           will fail           will fail
//	committed   refuse          refuse                  -                   gone; restart; the      note how it exited
//	                                                                        attempt failed
//	current     refuse          refuse                  -                   as committed            as committed
//	superseded  refuse          -                       kill                leaving, or gone;       -
//	                                                                        complete
//	leaving     refuse          -                       kill                gone, once reaped       gone
//	failed      refuse          refuse                  -                   gone                    -
//	gone        -               -                       -                   -                       -
//
// The columns are admit, onCommit, tooLate, onEnd and onMasterReaped. An attempt that fails makes failed of its
// successor, see [masters.failAttempt], and what is staged in a conversation that ends before COMMIT is discarded.
//
// Five events after COMMIT complete a takeover:
//
//	Committed         to the successor     it gives its workers GO and tells its predecessor (tableflip's Ready)
//	Superseded        to the predecessor   its workers are its successor's
//	Serving           of the successor     its sockets listen, its workers accept; may come at any time from here on
//	Leaving, or exit  of the predecessor   it changes nothing any more; superseded becomes leaving, or gone
//	TakeoverComplete  to the successor     committed becomes current: it gets the workers, and what was held back
type phase uint8

const (
	phaseNew        phase = iota // it has not said hello
	phaseFirst                   // starts; nothing serves yet
	phaseRestart                 // starts; the workers of one that died serve
	phaseSuccessor               // starts beside the current one
	phaseCommitted               // the master; its predecessor may still be there
	phaseCurrent                 // the only master
	phaseSuperseded              // another one is the master; what it says does not count, but see onSuperseded
	phaseLeaving                 // superseded, and about to exit
	phaseFailed                  // its attempt has failed; what it puts is discarded
	phaseGone                    // end-of-file was read
)

// supersededLimit is how long a master may take to exit after COMMIT.
const supersededLimit = time.Second

// masters are those that start, serve, or are about to exit, and the reloads that make one of the other.
type masters struct {
	sv *supervisor

	registration registration
	current      *masterConn // the master; nil while there is none
	old          *masterConn // superseded, not gone yet
	starting     *masterConn // started by this process, has not taken over yet; without a conn until its hello
	live         int         // conversations whose end has not been read
	leaving      []int       // PIDs of masters whose conversation has ended, and that have not been reaped yet

	generation int // committed
	requests   int64
	served     int64 // requests that an attempt has served
	attempt    *attempt
	attempts   int64     // how many there were
	attemptBy  time.Time // the attempt's deadline
	oldBy      time.Time // when old is killed
	moved      time.Time // the last step of a reload or a restart

	held         heldBack
	restarts     restarts
	lastTimeouts message.Preparing // of the last master
}

// of returns the master with a PID that starts, serves, or is about to exit; nil: it is none.
func (m *masters) of(pid int) *masterConn {
	all := []*masterConn{m.starting, m.current, m.old}
	if m.attempt != nil {
		all = append(all, m.attempt.successor)
	}
	for _, c := range all {
		if c != nil && c.pid == pid {
			return c
		}
	}
	return nil
}

// roles are what masters are told that they are.
var roles = map[phase]string{
	phaseFirst: message.RoleFirst, phaseRestart: message.RoleRestart, phaseSuccessor: message.RoleSuccessor,
}

// admit decides what a process is that says hello.
func (m *masters) admit(c *masterConn, f wire.Frame) error {
	var hello message.Hello
	if err := f.Check(); err != nil {
		return err
	}
	if err := f.Into(&hello); err != nil {
		return err
	}
	a := m.attempt
	switch {
	case m.sv.stopping.begun():
		return fmt.Errorf("stopping")
	case m.current == nil && m.starting != nil && m.starting.pid == c.pid && m.starting.conn == nil:
		c.phase = m.starting.phase
		c.seen = m.seenBy(c, 0)
		m.starting = c
	case a != nil && hello.Attempt == a.id && a.successor == nil && a.phase < attemptKilled:
		c.phase = phaseSuccessor
		a.successor = c
		a.seen = m.seenBy(c, a.seen)
		c.seen = a.seen
		m.sv.sayReloading()
	default:
		return fmt.Errorf("nobody waits for a master of attempt %q", hello.Attempt)
	}
	return nil
}

// seenBy returns how many reload requests a master serves that says hello, when before had come before it was executed.
func (m *masters) seenBy(c *masterConn, before int64) int64 {
	return seenAtHello(before, m.requests, m.sv.kernel.executable(c.pid), reexec.Stat(m.sv.args[0]))
}

// seenAtHello returns before or now. The master has not read its config yet, so that it serves what has been asked for
// until now; but if the executable at its path is not the one that it runs, it was replaced since, perhaps by those
// who asked, and only what came before the exec is served.
func seenAtHello(before, now int64, runs, there reexec.FileID) int64 {
	if runs != there || runs == (reexec.FileID{}) {
		return before
	}
	return now
}

func (m *masters) welcome(c *masterConn) {
	w := message.Welcome{
		Role: roles[c.phase], Generation: m.generation, Seen: c.seen, SupervisorPID: m.sv.pid,
		Started: m.sv.started.Unix(), Restarts: m.restarts.Total, FDStore: m.sv.systemd.KeepsSockets(),
	}
	if c.phase != phaseRestart {
		w.Generation++
	}
	_ = c.Post(w)
	m.sv.registry.send(c, "")
}

// onCommit is the one point of truth: before it nothing has happened, after it nothing can be undone by a death.
func (m *masters) onCommit(c *masterConn, msg message.Commit) {
	switch why := m.refusal(c); {
	case why != "":
		_ = c.Post(message.Refused{Error: why})
	case c.phase == phaseSuccessor:
		m.commitSuccessor(c, msg)
	default:
		m.commitStarted(c, msg)
	}
}

// refusal returns why a master cannot be committed.
func (m *masters) refusal(c *masterConn) string {
	const other, givenUp = "another process is the master", "the reload was given up"
	switch c.phase {
	case phaseFirst, phaseRestart:
		if m.starting != c { // it has exited
			return other
		}
	case phaseSuccessor:
		if m.attempt.phase >= attemptKilled || m.attempt.predecessor != m.current {
			return givenUp
		}
	case phaseFailed:
		return givenUp
	case phaseNew, phaseCommitted, phaseCurrent, phaseSuperseded, phaseLeaving, phaseGone:
		return other
	}
	if m.sv.stopping.begun() {
		return "stopping"
	}
	return ""
}

// commitStarted commits the first master, or a restarted one, which is ready.
func (m *masters) commitStarted(c *masterConn, msg message.Commit) {
	m.starting = nil
	m.restarts.at = time.Time{}
	if c.phase == phaseFirst {
		m.generation++
		m.served = msg.Seen // a HUP since then came too late for the config that it has read
	}
	m.restarts.Since = time.Now()
	m.makeCurrent(c)
	m.complete()
}

// commitSuccessor swaps the masters. The one that hands over has not died: its time counts for the next one.
func (m *masters) commitSuccessor(c *masterConn, msg message.Commit) {
	old := m.current
	m.attempt, m.attemptBy = nil, time.Time{}
	m.generation++
	m.makeCurrent(c)
	m.sv.reexec.propose()
	m.publish(result{Seen: msg.Seen, OK: true})
	_ = old.Post(message.Superseded{})
	old.phase = phaseSuperseded
	m.old, m.oldBy = old, time.Now().Add(supersededLimit)
}

func (m *masters) makeCurrent(c *masterConn) {
	c.phase = phaseCommitted
	m.current, m.moved = c, time.Now()
	m.lastTimeouts = c.timeouts
	m.sv.applyStaged(c)
	m.sv.log.Info("supervisor: COMMIT", "generation", m.generation, "master", c.pid)
	_ = c.Post(message.Committed{Generation: m.generation})
}

// onSuperseded is what a superseded master has still to say: that it leaves, what it has counted since the COMMIT, and
// which workers it has started before it heard of that.
func (m *masters) onSuperseded(c *masterConn, p *seqpacket.Packet) {
	var put message.Put
	var drop message.Drop
	switch p.Frame.T {
	case message.Leaving{}.Kind():
		c.phase = phaseLeaving
		m.complete()
	case message.Cut{}.Kind():
		_ = wire.On(p.Frame, m.sv.results.addCut)
	case put.Kind():
		if p.Frame.Into(&put) == nil && (put.Name == EntryStats || WorkerPID(put.Name) != 0) {
			staged{{name: put.Name, e: entry{Data: put.Data, FD: p.TakeFD()}}}.apply(m.sv.registry)
		}
	case drop.Kind():
		if p.Frame.Into(&drop) == nil && WorkerPID(drop.Name) != 0 {
			m.sv.registry.drop(drop.Name)
		}
	}
}

// complete tells the master that it is the only one, and gives it what the predecessor may have changed since the
// welcome: the workers, and the counts.
func (m *masters) complete() {
	c := m.current
	if c == nil || c.phase != phaseCommitted || m.old != nil && m.old.phase != phaseLeaving {
		return
	}
	c.phase = phaseCurrent
	_ = c.Post(message.TakeoverComplete{})
	m.sv.registry.send(c, EntryWorker+"/", EntryStats, EntryCount)
	m.releaseHeld()
}

// tooLate ends a master that has had the time of its phase.
func (m *masters) tooLate(c *masterConn) {
	switch c.phase {
	case phaseRestart:
		m.restarts.Last = "not ready in time"
		m.kill(c)
	case phaseSuccessor:
		m.giveUpSuccessor()
	case phaseSuperseded, phaseLeaving:
		m.sv.log.Warn("supervisor: the superseded master has not exited, killing it", "pid", c.pid)
		m.kill(c)
	case phaseNew, phaseFirst, phaseCommitted, phaseCurrent, phaseFailed, phaseGone: // have all the time they want
	}
}

// kill kills a master, which is a child or a grandchild.
func (m *masters) kill(c *masterConn) {
	switch {
	case c.pidfd >= 0:
		m.sv.kernel.kill(c.pidfd)
	case m.sv.kernel.isChild(c.pid):
		m.sv.kernel.signal(c.pid, unix.SIGKILL)
	}
}

// onEnd notes that a master has closed its end of the conversation. The process may live on for a moment.
func (m *masters) onEnd(c *masterConn) {
	_ = c.Close()
	m.live--
	isChild := m.sv.kernel.isChild(c.pid)
	if isChild {
		m.leaving = append(m.leaving, c.pid)
	}
	c.discardStaged()
	m.restarts.note(c.pid, c.exitReason)
	switch c.phase {
	case phaseSuccessor:
		c.phase = phaseGone
		m.successorGone()
	case phaseCommitted, phaseCurrent:
		c.phase = phaseGone
		m.masterLost(c)
	case phaseSuperseded, phaseLeaving:
		if isChild { // it may still have to be killed
			c.phase = phaseLeaving
			m.complete()
			return
		}
		m.oldGone()
	case phaseFailed:
		c.phase = phaseGone
	case phaseNew, phaseFirst, phaseRestart, phaseGone: // those that start are reaped
	}
	c.closePidfd()
}

// masterLost notes that the current master is dead, or as good as dead, for it has closed its conversation.
func (m *masters) masterLost(c *masterConn) {
	m.current, m.moved = nil, time.Now()
	m.held.masterLost(c)
	m.loseAttempt(c)
	m.lastTimeouts = c.timeouts
	m.restarts.begin(c)
	if m.sv.stopping.begun() {
		return
	}
	m.kill(c)
	m.sv.log.Error("supervisor: the master died, its workers serve on", "pid", c.pid)
	m.planRestart(time.Since(m.restarts.Since))
}

// onMasterReaped notes that a master that has a phase has exited.
func (m *masters) onMasterReaped(c *masterConn, ws unix.WaitStatus) {
	switch c.phase {
	case phaseFirst:
		m.startFailed(c, ws)
	case phaseRestart:
		m.restartFailed(c, ws)
	case phaseCommitted, phaseCurrent:
		c.exitStatus = spawn.Describe(ws) // its last words come first
	case phaseLeaving:
		m.oldGone()
	case phaseNew, phaseSuccessor, phaseSuperseded, phaseFailed, phaseGone: // end-of-file comes, or has come
	}
}

// oldGone notes that the superseded master has exited.
func (m *masters) oldGone() {
	m.old.closePidfd()
	m.old.phase = phaseGone
	m.old, m.oldBy = nil, time.Time{}
	m.complete() // unless it had left before
}
