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
	if k.count == k.served || k.attempt != nil || k.stopping || s == nil || s.phase != phaseCurrent || !s.serving || k.old != nil || k.isResizing() {
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
	if s.phase == phaseSuccessor {
		k.armAttempt(s.timeouts)
	}
}

// onUpgradeFailed: the sponsor says that its child is gone. That ends the attempt, when what the child itself has said
// about it is read: the word of another process may overtake it.
func (k *keeper) onUpgradeFailed(m wire.UpgradeFailed) {
	a := k.attempt
	if a == nil || a.id != m.Attempt {
		return
	}
	a.fallback = m.Error
	if a.successor == nil {
		k.failAttempt()
		return
	}
	a.phase = attemptEnded
	k.dl.attempt = time.Now().Add(time.Second)
}
