package httpworker

import "time"

// longAgo is the deadline that wakes a Read at once. It is the one that net/http uses to end its background read.
var longAgo = time.Unix(1, 0)

// clock keeps a connection's deadlines for reading with as few calls to the socket as possible: a timer that is armed
// too early is left alone, and when it fires, [clock.activeExpired] and its like tell whether the time is really up.
// Hence a Read that times out must ask, and try again if not.
type clock struct {
	sock interface{ SetReadDeadline(t time.Time) error }

	armed   time.Time // the socket's deadline
	user    time.Time // net/http's or the handler's
	waiting time.Time // the end of waiting for a request
	header  time.Time // the end of waiting for its header's rest
	body    time.Time // the end of waiting for more of its body
}

func (k *clock) arm(t time.Time) error {
	k.armed = t
	return k.sock.SetReadDeadline(t)
}

// expire makes the socket's Read return now.
func (k *clock) expire() { _ = k.arm(longAgo) }

// setUser sets the deadline of the active phase. Taking one away is not worth a call, unless now is asked for.
func (k *clock) setUser(t time.Time, now bool) error {
	k.user = t
	if t.IsZero() && !now {
		return nil
	}
	return k.arm(t)
}

// activeRead prepares a Read in the active phase. If it is one for a body, limit is how long that may pause, as long as
// nobody has set another deadline; otherwise it is 0. A body that has paused too long has done so for good.
func (k *clock) activeRead(limit time.Duration) {
	switch {
	case limit > 0 && k.user.IsZero():
		now := time.Now()
		if k.body.IsZero() {
			k.body = now.Add(limit)
		}
		if !k.armed.After(now) || k.armed.After(k.body) {
			_ = k.arm(k.body)
		}
	case k.armed.Equal(longAgo) && !k.user.Equal(longAgo):
		_ = k.arm(k.user)
	}
}

// activeExpired is asked when a Read in the active phase has timed out. If it was an old timer, the right one is armed.
func (k *clock) activeExpired() bool {
	end := k.user
	if end.IsZero() {
		end = k.body
	}
	if end.Equal(longAgo) || !end.IsZero() && !time.Now().Before(end) {
		return true
	}
	_ = k.arm(end)
	return false
}

// headerRead prepares a Read of a header's rest. The time begins with the first such Read: that is right behind the
// one that read the first byte, and a header that came in one piece costs nothing.
func (k *clock) headerRead(limit time.Duration) {
	if k.header.IsZero() {
		k.header = time.Now().Add(limit)
	}
	if !k.armed.Equal(k.header) {
		_ = k.arm(k.header)
	}
}

// headerExpired is asked when a Read in the header phase has timed out.
func (k *clock) headerExpired() bool { return !time.Now().Before(k.header) }

// waitingRead prepares a Read that waits for a request. The limit may become smaller while it waits. It reports false
// when the time is up.
func (k *clock) waitingRead(limit time.Duration) bool {
	now := time.Now()
	if end := now.Add(limit); k.waiting.IsZero() || k.waiting.After(end) {
		k.waiting = end
	}
	if !now.Before(k.waiting) {
		return false
	}
	if k.armed.IsZero() || k.armed.After(k.waiting) || !k.armed.After(now) {
		_ = k.arm(k.waiting)
	}
	return true
}
