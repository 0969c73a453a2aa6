package listen

import (
	"fmt"
	"slices"
	"time"

	"baton/master/internal/backoff"
	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// Listen makes the sockets listen that are new since COMMIT, in the order of the slots: by that order the steering
// knows them. Where that fails the listener alone is not served, which is a warning; workers do not accept on a socket
// that does not listen.
func (s *Set) Listen() {
	s.tryAll(bound)
	s.retries = backoff.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}
	s.planRetry()
}

func (s *Set) planRetry() {
	s.retryAt = 0
	if slices.ContainsFunc(s.sockets, func(k *socket) bool { return k.state == failed }) {
		s.retryAt = monotime.Now().Add(s.retries.Next(0))
	}
}

// tryAll makes the sockets listen that are in a state, those of a listener until one fails. It reports whether one of
// them listens.
func (s *Set) tryAll(from state) (served bool) {
	failing := map[string]error{}
	for _, k := range s.sockets {
		if k.state != from {
			continue
		}
		at := k.at()
		if failing[at] == nil {
			failing[at] = s.listen(k)
		}
		if err := failing[at]; err != nil {
			k.fail(err)
			s.master.Warn("listen/"+at, fmt.Sprintf("listener %s is not served, and is tried again: %v", k.Name, err))
			continue
		}
		served = true
		if s.failure(at) == nil {
			s.master.Unwarn("listen/"+at, "listener is served again", "listener", k.Name, "address", Local(k.fd))
		}
	}
	return served
}

// listen makes k listen, as the last one in its place.
func (s *Set) listen(k *socket) error {
	order := 0
	for _, o := range s.sockets {
		if o.place == k.place && o.state == listening {
			order = max(order, o.Order+1)
		}
	}
	if !isBound(k.fd) { // it has never been
		if err := s.bind(k); err != nil {
			return err
		}
	}
	if err := listen(k.fd); err != nil {
		return err
	}
	k.state, k.err = listening, nil
	if order != k.Order {
		k.Order = order
		s.update(k)
	}
	return nil
}

// failure is why a listener is not served, or not by all of its sockets; or nil.
func (s *Set) failure(at string) error {
	for _, k := range s.sockets {
		if k.state == failed && k.at() == at {
			return k.err
		}
	}
	return nil
}

// Check does what time has come for, and returns when to look again; 0: not before something else happens. Unless calm
// no socket is closed: a successor that starts has counted them. changed says that there are more sockets that listen
// than before, or fewer.
func (s *Set) Check(now monotime.Time, calm bool) (next monotime.Time, changed bool) {
	if s.retryAt != 0 && now >= s.retryAt {
		if changed = s.tryAll(failed); changed {
			s.TellListening()
		}
		s.planRetry()
	}
	if calm {
		var closed bool
		next, closed = s.closeQuiet(now)
		changed = changed || closed
	}
	if changed {
		s.steer()
	}
	return monotime.Earliest(s.retryAt, next), changed
}

// TellListening has the workers look which of their sockets listen.
func (s *Set) TellListening() {
	for w := range s.master.Workers() {
		if !w.Draining {
			_ = w.Conn.Post(wire.Listening{})
		}
	}
}
