package worker

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"sync"
)

// tickets are the keys of TLS session tickets, which all workers of all generations have in common.
type tickets struct {
	mu      sync.Mutex
	keys    [][]byte // the newest first
	sharing []sharing
}

type sharing struct {
	config *tls.Config
	label  string
}

// ShareTickets gives config the keys of session tickets that all workers of all generations have, now and whenever they
// change: a client that comes back to whichever of them resumes its session. The label keeps the sessions of one kind
// of listener apart from another's: it is to be the same in every generation. Without such keys, as in tests, config
// stays as it is.
func (e *Env) ShareTickets(config *tls.Config, label string) {
	t := &e.tickets
	t.mu.Lock()
	defer t.mu.Unlock()
	s := sharing{config, label}
	t.sharing = append(t.sharing, s)
	s.set(t.keys)
}

// set brings new keys.
func (t *tickets) set(keys [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = keys
	for _, s := range t.sharing {
		s.set(keys)
	}
}

func (s sharing) set(keys [][]byte) {
	if len(keys) == 0 {
		return
	}
	derived := make([][32]byte, len(keys))
	for i, k := range keys {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(s.label))
		mac.Sum(derived[i][:0])
	}
	s.config.SetSessionTicketKeys(derived)
}
