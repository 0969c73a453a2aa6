package conns

import "time"

// longAgo is the deadline that wakes a Read at once. It is the one that net/http uses to end its background read.
var longAgo = time.Unix(1, 0)

// clock keeps a connection's deadlines for reading with as few calls to the socket as possible: a timer that is armed
// too early is left alone, and when it fires, [clock.expired] and its like tell whether the time is really up.
// Hence a Read that times out must ask, and try again if not.
type clock struct {
	sock interface{ SetReadDeadline(t time.Time) error }

	armed   time.Time // the socket's deadline
	user    time.Time // the protocol's
	since   time.Time // the beginning of waiting for a message; zero: it has not begun
	waiting time.Time // its end; zero: there is none
	message time.Time // the end of waiting for its rest
	body    time.Time // the end of waiting for more of its body
}

func (k *clock) arm(t time.Time) {
	k.armed = t
	_ = k.sock.SetReadDeadline(t)
}

// expire makes the socket's Read return now.
func (k *clock) expire() { k.arm(longAgo) }

// setUser sets the protocol's deadline. Putting it off is not worth a call, unless exact is asked for.
func (k *clock) setUser(t time.Time, exact bool) {
	k.user = t
	later := t.IsZero() || !k.armed.IsZero() && k.armed.Before(t)
	if exact || !later {
		k.arm(t)
	}
}

// read prepares a Read of a message, or of what is none. If it is one for a body, limit is how long that may pause, as
// long as nobody has set another deadline; otherwise it is 0. A body that has paused too long has done so for good.
func (k *clock) read(limit time.Duration) {
	switch {
	case limit > 0 && k.user.IsZero():
		now := time.Now()
		if k.body.IsZero() {
			k.body = now.Add(limit)
		}
		if !k.armed.After(now) || k.armed.After(k.body) {
			k.arm(k.body)
		}
	case k.armed.Equal(longAgo) && !k.user.Equal(longAgo):
		k.arm(k.user)
	}
}

// expired is asked when that Read has timed out. If it was an old timer, the right one is armed.
func (k *clock) expired() bool {
	end := k.user
	if end.IsZero() {
		end = k.body
	}
	if passed(end) {
		return true
	}
	k.arm(end)
	return false
}

// passed reports whether t is a deadline, and has come. For longAgo, with which net/http ends a Read in every request, it
// does not look at the clock.
func passed(t time.Time) bool { return !t.IsZero() && (t.Equal(longAgo) || !time.Now().Before(t)) }

// messageRead prepares a Read of the rest of a message. The time begins with the first such Read: that is right behind
// the one that read the first byte, and a message that came in one piece costs nothing.
func (k *clock) messageRead(limit time.Duration) {
	if k.message.IsZero() {
		k.message = time.Now().Add(limit)
	}
	if !k.armed.Equal(k.message) {
		k.arm(k.message)
	}
}

// waitingRead prepares a Read that waits for a message, or until look if that is not zero. The limit, 0 is none, may
// become smaller meanwhile. It reports false when the time is up.
func (k *clock) waitingRead(limit time.Duration, look time.Time) bool {
	now := time.Now()
	if k.since.IsZero() {
		k.since = now
	}
	if end := now.Add(limit); limit > 0 && (k.waiting.IsZero() || k.waiting.After(end)) {
		k.waiting = end
	}
	if !k.waiting.IsZero() && !now.Before(k.waiting) {
		return false
	}
	end := earliest(earliest(k.waiting, k.user), look)
	switch {
	case end.IsZero():
		if !k.armed.IsZero() {
			k.arm(end)
		}
	case k.armed.IsZero() || k.armed.After(end) || !k.armed.After(now):
		k.arm(end)
	}
	return true
}

// earliest is the earlier one of two times that are not zero.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// left is what is left of the time that may be waited for a message, of limit if that has not begun.
func (k *clock) left(limit time.Duration) time.Duration {
	if k.waiting.IsZero() {
		return limit
	}
	return max(0, time.Until(k.waiting))
}
