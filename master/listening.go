package master

import (
	"fmt"
	"slices"
	"time"

	"baton/master/internal/backoff"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/sockets"
	"baton/worker/wire"
)

// listenState is how far a socket has come.
type listenState uint8

const (
	bound     listenState = iota // is to listen after COMMIT
	listening                    // or needs not to: UDP
	failed                       // somebody else took the address between bind and listen; it is tried again
)

// relisten is when sockets that could not listen are tried again; at is 0 if there are none.
type relisten struct {
	backoff.Backoff
	at monotime.Time
}

// listenNew makes the sockets listen that are new since COMMIT, in the order of the slots: by that order the steering
// knows them. Where somebody has taken the port in the moment since the bind, that listener alone is not served, which
// log and status say; workers do not accept on a socket that does not listen.
func (m *master) listenNew() {
	for i := range m.sockets {
		if m.sockets[i].state != bound {
			continue
		}
		if err := m.startListening(&m.sockets[i]); err != nil {
			m.listenFailed(&m.sockets[i], err)
		}
	}
	m.relisten.Backoff = backoff.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}
	m.planRelisten()
}

// startListening makes a socket listen, as the last one on its address.
func (m *master) startListening(s *sock) error {
	order := 0
	for _, o := range m.sockets {
		if o.address() == s.address() && o.state == listening {
			order = max(order, o.Order+1)
		}
	}
	if err := sockets.Listen(s.fd); err != nil {
		return err
	}
	s.state, s.err = listening, nil
	if order != s.Order {
		s.Order = order
		m.store(s.entry(), s.sockRecord, -1)
	}
	return nil
}

func (m *master) listenFailed(s *sock, err error) {
	s.state, s.err = failed, err
	m.warnOf(warnListen(s), fmt.Sprintf("listener %s is not served, and is tried again: %v", s.name(), err))
}

// warnListen is the key of a warning, one for a listener.
func warnListen(s *sock) string { return "listen/" + s.at }

func (m *master) planRelisten() {
	m.relisten.at = 0
	if slices.ContainsFunc(m.sockets, func(s sock) bool { return s.state == failed }) {
		m.relisten.at = monotime.Now().Add(m.relisten.Next(0))
	}
}

// checkRelisten tries the sockets again that could not listen, and returns when to look again.
func (m *master) checkRelisten(now monotime.Time) (next monotime.Time) {
	if m.relisten.at == 0 || m.phase.isStopping() || !m.phase.isMaster() {
		return 0
	}
	if now >= m.relisten.at {
		m.tryAgain()
		m.planRelisten()
	}
	return m.relisten.at
}

func (m *master) tryAgain() {
	again := false
	for i := range m.sockets {
		s := &m.sockets[i]
		if s.state != failed {
			continue
		}
		if err := m.startListening(s); err != nil {
			m.listenFailed(s, err)
			continue
		}
		again = true
		if m.listenError(s.at) == nil && m.warnings.drop(warnListen(s)) {
			m.log.Info("master: listener is served again", "listener", s.name(), "address", sockets.Local(s.fd))
		}
	}
	if again {
		m.tellListening()
		m.steer()
		m.serving() // there is one more for systemd to keep
	}
}

// tellListening has the workers look which of their sockets listen.
func (m *master) tellListening() {
	for _, p := range m.procs {
		if p.Generation == m.gen && p.State != plan.Draining {
			_ = p.conn.Post(wire.Listening{})
		}
	}
}

// listenError is why a listener is not served, or not by all of its sockets; or nil.
func (m *master) listenError(at string) error {
	for _, s := range m.sockets {
		if s.at == at && s.state == failed {
			return s.err
		}
	}
	return nil
}
