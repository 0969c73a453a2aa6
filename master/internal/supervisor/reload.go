package supervisor

import (
	"fmt"
	"slices"
	"time"

	"baton/master/internal/message"
)

// defaultReady holds until a master has said its config's timeouts.
const defaultReady = 10 * time.Second

// readyMargin is kept for a successor to report by itself that a worker was not ready in time.
const readyMargin = 250 * time.Millisecond

// endLimit is how long the end of a successor that was killed, or what it has said last, is waited for.
const endLimit = time.Second

// attempt is one reload, from the message to the master until it is committed or everything of it has exited.
type attempt struct {
	id          string
	seen        int64       // requests that it serves: all that came before its exec, and perhaps before its hello
	predecessor *masterConn // which starts the successor
	successor   *masterConn // nil before its hello, and after its end
	phase       attemptPhase
	limit       time.Duration
	workers     []int  // PIDs that the successor has reported and that have not been reaped
	reason      string // why it failed, as the successor or the supervisor said; the first word counts
	fallback    string // what the predecessor said of it
}

// attemptPhase is how far an attempt has come.
type attemptPhase uint8

const (
	attemptAsked   attemptPhase = iota // the predecessor has not said yet that it starts the successor
	attemptStarted                     // it has
	attemptKilled                      // the successor has exited, or will
	attemptEnded                       // it has exited, and what it said last is still to be read
)

func (a *attempt) forgetWorker(pid int) {
	a.workers = slices.DeleteFunc(a.workers, func(p int) bool { return p == pid })
}

func (a *attempt) setReason(reason string) {
	if a.reason == "" {
		a.reason = reason
	}
}

// request counts one reload request and returns its ID. limited: nobody waits for the answer. peer are the attributes
// of the process that has sent a command.
func (m *masters) request(source string, limited bool, peer ...any) int64 {
	m.requests++
	if limited {
		m.sv.limiter.record(time.Now())
	}
	m.sv.log.Info("supervisor: reload requested", append([]any{"by", source, "id", m.requests}, peer...)...)
	return m.requests
}

// startReload begins an attempt if somebody has asked for one that no attempt has served, and the master can be asked.
// What the master was told before, it does before: a successor reads what has come of it.
func (m *masters) startReload(now time.Time) {
	c := m.current
	if m.requests == m.served || m.attempt != nil || m.old != nil || m.held.awaitsAnswer() || m.sv.stopping.begun() {
		return
	}
	if c == nil || c.phase != phaseCurrent || !c.serving || !m.sv.limiter.allow(now) {
		return
	}
	m.attempts++
	m.attempt = &attempt{
		id: fmt.Sprintf("%d.%d.%d", m.sv.pid, m.sv.started.UnixNano(), m.attempts), seen: m.requests, predecessor: c,
	}
	m.attemptBy = now.Add(m.sv.masterLimit()) // for Upgrading
	m.sv.sayReloading()
	m.post(message.Reload{Attempt: m.attempt.id})
}

// onUpgrading notes that the predecessor starts the successor. The old config's ready_timeout holds until the successor
// has loaded its own.
func (m *masters) onUpgrading(c *masterConn, msg message.Upgrading) {
	if a := m.attempt; a != nil && a.id == msg.Attempt && a.phase == attemptAsked {
		a.phase = attemptStarted
		m.limitAttempt(c.timeouts)
	}
}

func (m *masters) onPreparing(c *masterConn, msg message.Preparing) {
	c.timeouts = msg
	if c.phase == phaseSuccessor {
		m.limitAttempt(c.timeouts)
	}
}

// limitAttempt sets the attempt's deadline. The successor looks after its workers by itself; the margin lets it say
// which of them was late.
func (m *masters) limitAttempt(t message.Preparing) {
	limit := time.Duration(t.ReadyTimeout)
	if limit <= 0 {
		limit = defaultReady
	}
	m.attempt.limit = limit
	m.attemptBy = time.Now().Add(limit + readyMargin)
}

// onUpgradeFailed notes that the child of the predecessor has exited. The attempt ends when the messages of the child
// itself are read: those of another process may overtake them.
func (m *masters) onUpgradeFailed(msg message.UpgradeFailed) {
	a := m.attempt
	if a == nil || a.id != msg.Attempt {
		return
	}
	a.fallback = msg.Error
	if a.successor == nil {
		m.failAttempt()
		return
	}
	a.phase = attemptEnded
	m.attemptBy = time.Now().Add(endLimit)
}

// attemptTimeout ends an attempt that has had its time. If nothing is heard of its end either, it is given up as it is.
func (m *masters) attemptTimeout() {
	a := m.attempt
	switch {
	case a == nil:
	case a.phase == attemptAsked:
		a.setReason(noAnswer(a.predecessor))
		m.failAttempt()
	case a.phase >= attemptKilled:
		m.failAttempt()
	case a.successor != nil:
		m.tooLate(a.successor)
	default: // it has not said hello
		m.giveUpSuccessor()
	}
}

// giveUpSuccessor kills what has not been ready in time, and waits for its end a moment longer.
func (m *masters) giveUpSuccessor() {
	m.attempt.setReason(fmt.Sprintf("not ready within %v", m.attempt.limit))
	m.killSuccessor()
	m.attemptBy = time.Now().Add(endLimit)
}

// killSuccessor kills the successor, and what else carries the attempt's mark.
func (m *masters) killSuccessor() {
	a := m.attempt
	a.phase = attemptKilled
	if a.successor != nil {
		m.kill(a.successor)
	}
	m.sv.kernel.killAttempt(a.id, a.workers)
}

// successorGone notes that the successor has exited. The predecessor says so as well, and the later of the two fails
// the attempt.
func (m *masters) successorGone() {
	a := m.attempt
	a.successor = nil
	if a.phase == attemptEnded {
		m.failAttempt()
		return
	}
	a.phase = attemptKilled
}

// loseAttempt ends the attempt of a master that is dead. One that it has not begun is the next master's.
func (m *masters) loseAttempt(c *masterConn) {
	switch a := m.attempt; {
	case a == nil:
	case a.phase == attemptAsked:
		m.dropAttempt()
	default:
		a.setReason(fmt.Sprintf("the master (pid %d) died", c.pid))
		m.killSuccessor()
		m.failAttempt()
	}
}

// failAttempt ends the attempt: nothing of it is left, and the result is known.
func (m *masters) failAttempt() {
	a := m.dropAttempt()
	a.setReason(a.fallback)
	m.sv.kernel.killAttempt(a.id, a.workers)
	m.sv.log.Error("supervisor: reload failed, nothing has changed", "error", a.reason)
	m.publish(result{Seen: a.seen, Error: a.reason})
	m.moved = time.Now()
	m.held.attemptFailed(m.current)
	m.releaseHeld()
	m.sv.sayReady()
}

// dropAttempt forgets the attempt. Nothing that its successor says counts any more.
func (m *masters) dropAttempt() *attempt {
	a := m.attempt
	m.attempt, m.attemptBy = nil, time.Time{}
	if a.successor != nil {
		a.successor.phase = phaseFailed
		a.successor.discardStaged()
	}
	return a
}

// publish keeps a result for clients that ask, now or later.
func (m *masters) publish(r result) {
	r.Generation = m.generation
	m.served = max(m.served, r.Seen)
	m.sv.results.add(r)
}
