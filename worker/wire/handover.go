package wire

import (
	"fmt"
	"math"
	"time"
)

// ListenerKey says which listener a connection came by, for workers of other generations: the port, the protocol that
// is spoken, and the user's name for it. With the name empty it stands for all listeners of the port and the protocol
// that there are no more.
type ListenerKey struct {
	Group   string `json:"g"` // see [Listener]
	Process string `json:"p,omitempty"`
	Name    string `json:"n,omitempty"`
}

// Any is the key of the listeners of k's port and protocol that there are no more.
func (k ListenerKey) Any() ListenerKey { return ListenerKey{Group: k.Group, Process: k.Process} }

// Takes says whose connections a worker takes from GO on. Unless there are none, it carries the descriptor that they
// are to be sent to. It is said before [Ready], and again after every [Go], which an adopting master says once more.
type Takes struct {
	Keys []ListenerKey `json:"keys,omitempty"`
}

// Takers says who takes the connections of a worker that drains, in the order in which they are to have the next one.
// It carries a descriptor for each. It comes before the [Drain] and whenever there are others. Nobody else is offered
// anything.
type Takers struct {
	PIDs []int           `json:"pids,omitempty"`
	Of   []int           `json:"of,omitempty"` // for each of PIDs an index into Sets
	Sets [][]ListenerKey `json:"sets,omitempty"`
}

// Share says to a worker that serves on that it gives Part of Of of its connections to the [Takers] that it was told of
// just before: there are more workers than before.
type Share struct {
	Part int `json:"part"`
	Of   int `json:"of"`
}

// Handover gives idle connections to a worker that takes them. It carries their descriptors, in the order of Conns, and
// after them one end of a socketpair, on which the receiver answers with an [Ack] before it reads from any of the
// connections. The sender keeps its copies until then, and may say [Withdrawn].
type Handover struct {
	Keys  []ListenerKey  `json:"keys"`
	Conns []HandoverConn `json:"conns"` // at most MaxFDs-1
}

// HandoverConn is a connection: an index into Keys, and how long it may still be idle, in milliseconds.
type HandoverConn [2]int64

// Ack says which connections the receiver has taken, by their index. The others are still the sender's.
type Ack struct {
	Taken []bool `json:"taken"`
}

// Withdrawn says that the sender of a [Handover] has waited long enough. Who cannot send an [Ack] any more and finds
// this has nothing to take; who finds the end of the socketpair without it has all of a sender that is dead.
type Withdrawn struct{}

func (Takes) Kind() string     { return "takes" }
func (Takers) Kind() string    { return "takers" }
func (Share) Kind() string     { return "share" }
func (Handover) Kind() string  { return "handover" }
func (Ack) Kind() string       { return "ack" }
func (Withdrawn) Kind() string { return "withdrawn" }

// Check says whether the message can be true for a packet with that many descriptors.
func (t Takers) Check(fds int) error {
	if len(t.PIDs) != fds || len(t.Of) != fds {
		return fmt.Errorf("takers: %d with %d sets and %d descriptors", len(t.PIDs), len(t.Of), fds)
	}
	for _, i := range t.Of {
		if i < 0 || i >= len(t.Sets) {
			return fmt.Errorf("takers: set %d of %d", i, len(t.Sets))
		}
	}
	return nil
}

// Count is how many of n connections are to be given.
func (s Share) Count(n int) int {
	if s.Part <= 0 || s.Of <= 0 {
		return 0
	}
	return min(n, n*s.Part/s.Of)
}

// Check says whether the message can be true for a packet with that many descriptors.
func (h Handover) Check(fds int) error {
	if len(h.Conns)+1 != fds {
		return fmt.Errorf("handover: %d connections with %d descriptors", len(h.Conns), fds)
	}
	for _, c := range h.Conns {
		if c[0] < 0 || c[0] >= int64(len(h.Keys)) {
			return fmt.Errorf("handover: key %d of %d", c[0], len(h.Keys))
		}
		if c[1] < 0 || c[1] > int64(math.MaxInt64/time.Millisecond) {
			return fmt.Errorf("handover: %d ms left", c[1])
		}
	}
	return nil
}
