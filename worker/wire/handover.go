package wire

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math"
	"slices"
	"sort"
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

// A KeySet is a set of ListenerKeys, as a hash of 4 bytes for each: so the keys of thousands of listeners fit into a
// message. It may seem to have a key that it has not. That does no harm: the receiver of a [Handover] knows what it
// takes.
type KeySet []byte

// NewKeySet makes a set. The same keys make the same one.
func NewKeySet(keys iter.Seq[ListenerKey]) KeySet {
	var hashes []uint32
	for k := range keys {
		hashes = append(hashes, k.hash())
	}
	slices.Sort(hashes)
	var s KeySet
	for _, h := range slices.Compact(hashes) {
		s = binary.BigEndian.AppendUint32(s, h)
	}
	return s
}

// Has reports whether k is in the set.
func (s KeySet) Has(k ListenerKey) bool {
	h := k.hash()
	at := func(i int) uint32 { return binary.BigEndian.Uint32(s[4*i:]) }
	n := len(s) / 4
	i := sort.Search(n, func(i int) bool { return at(i) >= h })
	return i < n && at(i) == h
}

func (k ListenerKey) hash() uint32 {
	h := fnv.New32a()
	_, _ = io.WriteString(h, k.Group+"\x00"+k.Process+"\x00"+k.Name)
	return h.Sum32()
}

// Takes says whose connections a worker takes from GO on. Unless there are none, it carries the descriptor that they
// are to be sent to. It is said before [Ready], and again after every [Go], which an adopting master says once more.
type Takes struct {
	Keys KeySet `json:"keys,omitempty"`
}

// Takers names the workers that take the connections of a worker that drains, in the order in which they are to have
// the next one. It carries a descriptor for each. It comes before the [Drain] and whenever there are others. Nobody
// else is offered anything.
type Takers struct {
	PIDs []int    `json:"pids,omitempty"`
	Of   []int    `json:"of,omitempty"` // for each of PIDs an index into Sets
	Sets []KeySet `json:"sets,omitempty"`
}

// Share says to a worker that serves on that it gives Part of Of of its connections to the [Takers] that it was told of
// just before: there are more workers than before.
type Share struct {
	Part int `json:"part"`
	Of   int `json:"of"`
}

// Offer offers idle connections to a worker that takes them. It carries two descriptors: a socket in whose queue a
// [Handover] is, and one end of a socketpair, on which the receiver answers with an [Ack] before it reads from any of
// the connections. If there is no Handover any more, the sender has taken it back.
type Offer struct{}

// Handover carries the descriptors of connections, in the order of Conns. The sender keeps its copies until it has an
// [Ack], and may say [Withdrawn].
type Handover struct {
	Keys  []ListenerKey  `json:"keys"`
	Conns []HandoverConn `json:"conns"` // at most MaxFDs
}

// HandoverConn is a connection: an index into Keys, and how long it may still be idle, in milliseconds.
type HandoverConn [2]int64

// Ack says which connections the receiver has taken, by their index. The others are still the sender's.
type Ack struct {
	Taken []bool `json:"taken"`
}

// Withdrawn says that the sender of an [Offer] has waited long enough. A receiver that cannot send an [Ack] any more
// and finds this has nothing to take; one that finds the end of the socketpair without it takes all of a sender that
// is dead.
type Withdrawn struct{}

func (Takes) Kind() string     { return "takes" }
func (Takers) Kind() string    { return "takers" }
func (Share) Kind() string     { return "share" }
func (Offer) Kind() string     { return "offer" }
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
	if len(h.Conns) != fds {
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
