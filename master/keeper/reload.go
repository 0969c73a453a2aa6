package keeper

import (
	"fmt"
	"time"

	"baton/worker/wire"
)

// startReload begins an attempt if somebody has asked for one that no attempt has served, and the master can be asked. What
// the master was told before, it does before: a successor reads what has come of it.
func (k *keeper) startReload(now time.Time) {
	s := k.current
	if k.count == k.served || k.attempt != nil || k.stopping || s == nil || !s.alone || !s.serving || k.old != nil || k.isResizing() {
		return
	}
	if wait := k.pace.wait(now); wait > 0 {
		k.dl.reload = now.Add(wait)
		return
	}
	k.dl.reload = time.Time{}
	k.pace.started = now
	k.attempts++
	k.attempt = &attempt{
		id: fmt.Sprintf("%d.%d.%d", k.pid, k.started.UnixNano(), k.attempts), seen: k.count, sponsor: k.current,
	}
	k.dl.attempt = now.Add(k.masterLimit()) // for Upgrading
	k.sayReloading()
	k.post(wire.Reload{Attempt: k.attempt.id})
}

// onUpgrading: the sponsor starts the successor. The old config's ready_timeout holds until that has loaded its own.
func (k *keeper) onUpgrading(s *session, m wire.Upgrading) {
	if a := k.attempt; a != nil && a.id == m.Attempt && a.phase == attemptAsked {
		a.phase = attemptStarted
		k.armAttempt(s.timeouts)
	}
}

// armAttempt sets the attempt's deadline. The successor looks after its workers by itself; the margin lets it say which of
// them was late.
func (k *keeper) armAttempt(t wire.Preparing) {
	limit := time.Duration(t.ReadyTimeout)
	if limit <= 0 {
		limit = defaultReady
	}
	k.attempt.limit = limit
	k.dl.attempt = time.Now().Add(limit + readyMargin)
}

// readyMargin is kept for a successor to report by itself that a worker was not ready in time.
const readyMargin = 250 * time.Millisecond

func (k *keeper) onPreparing(s *session, m wire.Preparing) {
	s.timeouts = m
	if k.attempt != nil && k.attempt.successor == s {
		k.armAttempt(s.timeouts)
	}
}

// attemptTimeout: the successor has had its time. If nothing is heard of its end either, the attempt is given up as it is.
func (k *keeper) attemptTimeout() {
	a := k.attempt
	if a == nil {
		return
	}
	switch a.phase {
	case attemptAsked:
		a.blame(k.silence(a.sponsor))
		k.failAttempt()
	case attemptStarted:
		a.blame(fmt.Sprintf("not ready within %v", a.limit))
		k.abandonSuccessor()
		k.dl.attempt = time.Now().Add(time.Second)
	case attemptKilled:
		k.failAttempt()
	}
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

// onCommit is the one point of truth: before it nothing has happened, after it nothing can be undone by a death.
func (k *keeper) onCommit(s *session, m wire.Commit) {
	switch {
	case k.stopping:
		_ = s.conn.Post(wire.Refused{Error: "stopping"})
	case s.role == wire.RoleSuccessor:
		k.commitSuccessor(s, m)
	case k.current == nil && k.starting == s.pid:
		k.commitStarted(s, m)
	default:
		_ = s.conn.Post(wire.Refused{Error: "another process is the master"})
	}
}

func (k *keeper) commitSuccessor(s *session, m wire.Commit) {
	a := k.attempt
	if a == nil || a.successor != s || a.phase == attemptKilled || a.sponsor != k.current {
		_ = s.conn.Post(wire.Refused{Error: "the reload was given up"})
		return
	}
	old := k.current
	k.attempt = nil
	k.dl.attempt = time.Time{}
	k.generation++
	k.makeCurrent(s)
	_ = s.conn.Post(wire.Committed{Generation: k.generation})
	k.noteExe()
	k.publish(result{Seen: m.Seen, OK: true})
	_ = old.conn.Post(wire.Superseded{})
	old.superseded = true
	k.old = old
	k.dl.old = time.Now().Add(supersededLimit)
}

// commitStarted: the first master, or a restarted one, is ready.
func (k *keeper) commitStarted(s *session, m wire.Commit) {
	k.starting = 0
	k.dl.restart = time.Time{}
	if s.role == wire.RoleFirst {
		k.generation++
		k.served = m.Seen // a HUP since then came too late for the config that it has read
	}
	k.makeCurrent(s)
	_ = s.conn.Post(wire.Committed{Generation: k.generation})
	k.announceAlone()
}

func (k *keeper) makeCurrent(s *session) {
	k.current, k.moved = s, time.Now()
	k.lastTimeouts = s.timeouts
	if s.role != wire.RoleSuccessor { // a master that has handed over did not die: its time counts for the next one
		k.masterSince = time.Now()
	}
	k.applyStaged(s)
}

// onUpgradeFailed: the sponsor says that its child is gone. That ends the attempt.
func (k *keeper) onUpgradeFailed(m wire.UpgradeFailed) {
	if k.attempt == nil || k.attempt.id != m.Attempt {
		return
	}
	k.attempt.blame(m.Error)
	k.failAttempt()
}

// failAttempt ends the attempt: nothing of it is left, and the result is known.
func (k *keeper) failAttempt() {
	a := k.attempt
	k.attempt = nil
	k.dl.attempt = time.Time{}
	if s := a.successor; s != nil {
		s.staged.discard()
		s.staged = nil
		s.superseded, s.failed = true, true
	}
	killAttempt(a.id, a.workers)
	k.log.Error("keeper: reload failed, nothing has changed", "error", a.reason)
	k.publish(result{Seen: a.seen, Error: a.reason})
	k.moved = time.Now()
	k.reopen = k.reopen && k.current == nil // else the master has done so
	k.tellResizes()
	k.sayReady()
}
