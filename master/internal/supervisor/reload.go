package supervisor

import (
	"fmt"
	"time"

	"baton/master/internal/message"
)

// startReload begins an attempt if somebody has asked for one that no attempt has served, and the master can be asked. What
// the master was told before, it does before: a successor reads what has come of it.
func (sv *supervisor) startReload(now time.Time) {
	s := sv.current
	if sv.count == sv.served || sv.attempt != nil || sv.stopping || s == nil || s.phase != phaseCurrent || !s.serving || sv.old != nil || sv.isResizing() {
		return
	}
	if wait := sv.pace.wait(now); wait > 0 {
		sv.dl.reload = now.Add(wait)
		return
	}
	sv.dl.reload = time.Time{}
	sv.pace.started = now
	sv.attempts++
	sv.attempt = &attempt{
		id: fmt.Sprintf("%d.%d.%d", sv.pid, sv.started.UnixNano(), sv.attempts), seen: sv.count, sponsor: sv.current,
	}
	sv.dl.attempt = now.Add(sv.masterLimit()) // for Upgrading
	sv.sayReloading()
	sv.post(message.Reload{Attempt: sv.attempt.id})
}

// onUpgrading: the sponsor starts the successor. The old config's ready_timeout holds until that has loaded its own.
func (sv *supervisor) onUpgrading(s *session, m message.Upgrading) {
	if a := sv.attempt; a != nil && a.id == m.Attempt && a.phase == attemptAsked {
		a.phase = attemptStarted
		sv.armAttempt(s.timeouts)
	}
}

// armAttempt sets the attempt's deadline. The successor looks after its workers by itself; the margin lets it say which of
// them was late.
func (sv *supervisor) armAttempt(t message.Preparing) {
	limit := time.Duration(t.ReadyTimeout)
	if limit <= 0 {
		limit = defaultReady
	}
	sv.attempt.limit = limit
	sv.dl.attempt = time.Now().Add(limit + readyMargin)
}

// readyMargin is kept for a successor to report by itself that a worker was not ready in time.
const readyMargin = 250 * time.Millisecond

func (sv *supervisor) onPreparing(s *session, m message.Preparing) {
	s.timeouts = m
	if s.phase == phaseSuccessor {
		sv.armAttempt(s.timeouts)
	}
}

// onUpgradeFailed: the sponsor says that its child is gone. That ends the attempt, when what the child itself has said
// about it is read: the word of another process may overtake it.
func (sv *supervisor) onUpgradeFailed(m message.UpgradeFailed) {
	a := sv.attempt
	if a == nil || a.id != m.Attempt {
		return
	}
	a.fallback = m.Error
	if a.successor == nil {
		sv.failAttempt()
		return
	}
	a.phase = attemptEnded
	sv.dl.attempt = time.Now().Add(time.Second)
}
