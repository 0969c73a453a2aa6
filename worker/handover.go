package worker

import (
	"baton/worker/handover"
	"baton/worker/wire"
)

// setHandover makes the handover of a new Env.
func (e *Env) setHandover() {
	e.handover = handover.New(e.Log)
	e.handover.Room = e.limiter.room
}

// openHandover is called when everything is registered that is going to be.
func (e *Env) openHandover() {
	for other, key := range strays(e.Sockets(), e.handover.Registered) {
		e.handover.RegisterAlso(other, key)
	}
	if err := e.handover.Open(); err != nil {
		e.Log.Warn("worker: no connections are taken from others", "error", err)
	}
}

// strays says which listener takes the connections of those of its port and protocol that there are no more, because
// their name or their address has changed: the first, if all of them take connections. Else it may be one that does not
// where the client is.
func strays(sockets []Socket, takes func(handover.Key) bool) map[handover.Key]handover.Key {
	all := map[handover.Key]handover.Key{}
	stays := map[handover.Key]bool{}
	for _, s := range sockets {
		if s.Transport == "udp" {
			continue
		}
		other := s.Key.Any()
		if !takes(s.Key) {
			stays[other] = true
		}
		if _, ok := all[other]; !ok {
			all[other] = s.Key
		}
	}
	for other := range stays {
		delete(all, other)
	}
	return all
}

// OnShare has f called when the worker is to give some of its connections to others, though it serves on; part says how
// many of n that are. OnShare is called before Ready.
//
// f is called on the goroutine that reads what the master says, and must not block.
func (e *Env) OnShare(f func(part func(n int) int)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sharers = append(e.sharers, f)
}

func (e *Env) share(s wire.Share) {
	e.mu.Lock()
	all := e.sharers
	e.mu.Unlock()
	for _, f := range all {
		f(s.Count)
	}
}
