package handover

import (
	"errors"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// takeAll takes one message after the other, until Stop.
func (x *Exchange) takeAll() {
	defer close(x.stopped)
	in := inbox{
		conn: x.take,
		data: make([]byte, wire.MaxFrame), oob: make([]byte, unix.CmsgSpace(4*(wire.MaxFDs+1))),
	}
	for {
		p, cut, err := in.receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			continue
		case err != nil:
			x.log.Error("handover: queue", "error", err)
			return
		}
		x.takeOne(p, cut)
	}
}

// takeOne answers a message and passes on what it takes. cut means that the kernel could not give us all descriptors,
// so the ack socket, the last of them, is missing: then all goes back, by end-of-file.
func (x *Exchange) takeOne(p seqpacket.Packet, cut bool) {
	var h wire.Handover
	err := p.Frame.Check()
	if err == nil {
		err = p.Frame.Into(&h)
	}
	if err == nil && !cut {
		err = h.Check(len(p.FDs))
	}
	if cut || err != nil {
		x.log.Warn("handover: message left to its sender", "cut", cut, "error", err)
		x.Counts.Refused.Add(int64(len(h.Conns)))
		p.Close()
		return
	}
	n := len(h.Conns)
	ackFD, fds := p.FDs[n], p.FDs[:n]
	conns, taken := x.choose(h, fds)
	if data, err := wire.Encode(wire.Ack{Taken: taken}); err == nil {
		// An error means that the sender is dead; then these are the only copies.
		_ = unix.Sendmsg(ackFD, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	_ = unix.Close(ackFD)
	for i, c := range conns {
		if !taken[i] {
			_ = unix.Close(c.FD)
			x.Counts.Refused.Add(1)
			continue
		}
		x.Counts.Taken.Add(1)
		x.sink(c.Key)(c)
	}
}

// headroom is how many descriptors stay free for what is to be done with the connections that were taken: to open one
// takes two more.
const headroom = 16

// Scarce reports whether descriptors that were just made are among the last that the process may have. The kernel gives
// the lowest number that is free.
func Scarce(fds ...int) bool {
	var limit unix.Rlimit
	if len(fds) == 0 || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	return uint64(slices.Max(fds)+headroom) >= limit.Cur
}

// choose says which of the connections have somebody here who serves them.
func (x *Exchange) choose(h wire.Handover, fds []int) ([]Conn, []bool) {
	room := len(fds)
	if x.Room != nil {
		room = x.Room()
	}
	if Scarce(fds...) {
		room = 0
	}
	conns, taken := make([]Conn, len(fds)), make([]bool, len(fds))
	for i, hc := range h.Conns {
		conns[i] = Conn{FD: fds[i], Key: h.Keys[hc[0]], Idle: time.Duration(hc[1]) * time.Millisecond}
		if taken[i] = room > 0 && x.sink(conns[i].Key) != nil; taken[i] {
			room--
		}
	}
	return conns, taken
}

func (x *Exchange) sink(key string) func(Conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sinks[key]
}
