package keeper

import (
	"fmt"
	"strings"
	"time"

	"baton/worker/wire"
)

// startReload begins an attempt if somebody has asked for one that no attempt has served, and the master can be asked.
func (k *keeper) startReload(now time.Time) {
	if k.count == k.served || k.attempt != nil || k.stopping || k.current == nil || !k.current.alone || !k.current.serving || k.old != nil {
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
	k.armAttempt(k.current.timeouts)
	k.sayReloading()
	k.post(wire.Reload{Attempt: k.attempt.id})
}

// armAttempt sets the attempt's deadline: the old config's ready_timeout until the successor has loaded its own. The
// successor looks after its workers by itself; the margin lets it say which of them was late.
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

func (k *keeper) onPreparing(s *session) {
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
	a.blame(fmt.Sprintf("not ready within %v", a.limit))
	if a.killed {
		k.failAttempt()
		return
	}
	k.abandonSuccessor()
	k.dl.attempt = time.Now().Add(time.Second)
}

// abandonSuccessor kills the successor, and whatever else carries the attempt's mark.
func (k *keeper) abandonSuccessor() {
	a := k.attempt
	a.killed = true
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
	if a == nil || a.successor != s || a.killed || a.sponsor != k.current {
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
	r := k.publish(wire.Result{Seen: m.Seen, OK: true})

	_ = s.conn.Post(r)
	_ = old.conn.Post(r)
	_ = old.conn.Post(wire.Superseded{})
	old.superseded = true
	k.old = old
	k.dl.old = time.Now().Add(supersededLimit)
	k.presumeServing(s, m)
}

// commitStarted: the first master, or a restarted one, is ready.
func (k *keeper) commitStarted(s *session, m wire.Commit) {
	k.starting = 0
	k.dl.restart, k.dl.answer = time.Time{}, time.Time{}
	k.standDown()
	if s.role == wire.RoleFirst {
		k.generation++
		k.served = m.Seen // a HUP since then came too late for the config that it has read
	}
	k.makeCurrent(s)
	_ = s.conn.Post(wire.Committed{Generation: k.generation})
	k.announceAlone()
	k.presumeServing(s, m)
}

// presumeServing is for a master of a release that does not say it.
func (k *keeper) presumeServing(s *session, m wire.Commit) {
	if !m.Serves {
		k.onServing(s, wire.Serving{Workers: k.size})
	}
}

func (k *keeper) makeCurrent(s *session) {
	k.current = s
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
	k.post(k.publish(wire.Result{Seen: a.seen, Error: a.reason}))
	k.sayReady()
}

// maxReason bounds what is kept of a reason, so that a result always fits into a message.
const maxReason = 4 << 10

func shorten(reason string) string {
	if len(reason) <= maxReason {
		return reason
	}
	return strings.ToValidUTF8(reason[:maxReason], "") + " …"
}

// publish stores a result for those who ask, now or later.
func (k *keeper) publish(r wire.Result) wire.Result {
	r.Generation = k.generation
	r.Error = shorten(r.Error)
	r.At = time.Now().UnixMilli()
	k.served = max(k.served, r.Seen)
	k.results = append(k.results, r)
	if len(k.results) > maxResults {
		k.results = k.results[1:]
	}
	return r
}
