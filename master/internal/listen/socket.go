package listen

import (
	"fmt"
	"strings"

	"baton/master/internal/monotime"
	"baton/worker/rawfd"
	"baton/worker/wire"
)

// socket is a listening socket as the master holds it.
type socket struct {
	listener
	record
	key   string
	fd    int
	state state
	err   error // of the last try, if state is failed

	// extra sockets are those that the configuration has no more use for, but whose address it still serves: of slots
	// that are gone, or of an address within a wider one. All workers accept on them, and so nothing that the kernel
	// still puts there is lost. They are closed when the address leaves the configuration, or see closeQuiet.
	extra bool
}

// record is the line of data that goes with a socket in the registry.
type record struct {
	place
	Slot       int `json:"slot"`       // or Shared
	Order      int `json:"order"`      // in which the sockets in this place have listened, or will
	Generation int `json:"generation"` // that has made it

	// File is that of a Unix socket which this program has made.
	File wire.Path `json:"file,omitzero"`

	// Quiet is since when an extra socket gets no new connections; 0: it may get some.
	Quiet monotime.Time `json:"quiet,omitempty"`

	// Activated is systemd's name for a socket of one of its socket units; empty for all that this program has made.
	Activated string `json:"activated,omitempty"`
}

// state is how far a socket has come.
type state uint8

const (
	bound     state = iota // is to listen after COMMIT
	listening              // or needs not to: UDP
	failed                 // somebody else took the address between bind and listen; it is tried again
)

// look notes whether the socket listens already.
func (k *socket) look() {
	if strings.HasPrefix(k.Group, "udp/") || rawfd.Listens(k.fd) {
		k.state = listening
	}
}

// fail notes that somebody else has the address.
func (k *socket) fail(err error) { k.state, k.err = failed, err }

// at is the address in the key: what the sockets of all slots have in common.
func (k *socket) at() string { return strings.TrimSuffix(k.key, fmt.Sprintf("/%d", k.Slot)) }

// isOf reports whether the worker in a slot begins with the socket: its own or a shared one.
func (k *socket) isOf(slot int) bool { return !k.extra && (k.Slot == Shared || k.Slot == slot) }

func (k *socket) isTCP() bool { return strings.HasPrefix(k.Group, "tcp/") }

func (k *socket) wire() wire.Listener {
	w := wire.Listener{
		Key: k.key, Group: k.Group, Name: k.Name, Address: k.Address, Transport: k.Transport, Process: k.Process,
		Handover: !k.NoHandover, Own: k.Slot != Shared, Additional: k.extra, External: k.Activated != "",
	}
	if at := k.at(); at != k.key {
		w.At = at
	}
	return w
}
