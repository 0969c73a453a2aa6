package master

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"time"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// entryTickets is the registry's entry of the keys of TLS session tickets: workers of all generations have the same.
const entryTickets = "tickets"

// A new key is made every ticketRotation; tickets of old ones are good for ticketLife, which is what TLS allows.
const (
	ticketRotation = 24 * time.Hour
	ticketLife     = 7 * 24 * time.Hour
)

// ticketKeys are the keys of TLS session tickets, the newest first.
type ticketKeys []ticketKey

type ticketKey struct {
	Key     []byte `json:"key"`
	Created int64  `json:"created"` // Unix seconds
}

// rotate makes a new key if it is time, drops those that are too old, and reports whether it did.
func (t *ticketKeys) rotate(now time.Time) bool {
	if t.due(now) > 0 {
		return false
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	kept := ticketKeys{{Key: key, Created: now.Unix()}}
	for _, k := range *t {
		if now.Sub(time.Unix(k.Created, 0)) < ticketLife+ticketRotation {
			kept = append(kept, k)
		}
	}
	*t = kept
	return true
}

// due returns when the next key is due. A clock that was set back does not postpone it.
func (t ticketKeys) due(now time.Time) time.Duration {
	if len(t) == 0 {
		return 0
	}
	return min(ticketRotation, time.Unix(t[0].Created, 0).Add(ticketRotation).Sub(now))
}

func (t ticketKeys) bytes() [][]byte {
	all := make([][]byte, len(t))
	for i, k := range t {
		all[i] = k.Key
	}
	return all
}

// openTickets takes the keys, or makes the first one. They stay when there is no TLS listener any more.
func (m *master) openTickets() error {
	if !slices.ContainsFunc(m.cfg.Listen, func(l Listen) bool { return l.Transport == "tls" }) {
		return nil
	}
	if it, ok := m.claim(entryTickets); ok {
		_ = json.Unmarshal([]byte(it.data), &m.tickets) // what cannot be read is replaced
	}
	if m.tickets.rotate(time.Now()) {
		m.store(entryTickets, m.tickets, -1)
	}
	return nil
}

// checkTickets gives all workers a new key when it is due, and returns when the next check is. There is none while a
// successor starts, which would not know of it.
func (m *master) checkTickets(next monotime.Time) monotime.Time {
	if len(m.tickets) == 0 || !m.phase.isMaster() || m.phase.isStopping() || m.upgrading != "" {
		return next
	}
	if m.tickets.rotate(time.Now()) {
		m.store(entryTickets, m.tickets, -1)
		for _, p := range m.procs {
			_ = p.conn.Post(wire.Tickets{Keys: m.tickets.bytes()})
		}
	}
	due := monotime.Now().Add(m.tickets.due(time.Now()))
	if next == 0 || due < next {
		next = due
	}
	return next
}
