package wire

import (
	"fmt"
	"math"
	"time"
)

// Handover gives idle connections to whatever worker reads the hand-over queue. It carries their descriptors, in the
// order of Conns, and after them one end of a socketpair, on which the receiver answers with an [Ack] before it reads
// from any of the connections. The sender keeps its copies until then, or until end-of-file.
type Handover struct {
	Keys  []string       `json:"keys"`  // of listeners
	Conns []HandoverConn `json:"conns"` // at most MaxFDs-1
}

// HandoverConn is a connection: an index into Keys, and how long it may still be idle, in milliseconds.
type HandoverConn [2]int64

// Ack says which connections the receiver has taken, by their index. The others are still the sender's.
type Ack struct {
	Taken []bool `json:"taken"`
}

func (Handover) Kind() string { return "handover" }
func (Ack) Kind() string      { return "ack" }

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
