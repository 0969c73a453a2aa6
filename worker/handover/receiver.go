package handover

import (
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// takeAll takes one message after the other, until Stop. One that is broken, or whose descriptors there was no room
// for, goes back to its sender by the end of its ack socket.
func (x *Handover) takeAll() {
	defer close(x.done)
	for {
		p, err := x.inbox.Recv()
		switch {
		case err == nil:
			x.takeOne(p)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case errors.Is(err, io.EOF), isSyscall(err):
			x.log.Error("handover: inbox", "error", err)
			return
		default:
			x.Counts.Refused.Add(1)
			x.log.Warn("handover: message left to its sender", "error", err)
		}
	}
}

// isSyscall tells an error of the socket from one of the message.
func isSyscall(err error) bool {
	var sys *os.SyscallError
	return errors.As(err, &sys)
}

// takeOne answers a message and passes on what it takes.
func (x *Handover) takeOne(p seqpacket.Packet) {
	defer p.Close()
	var h wire.Handover
	err := p.Frame.Check()
	if err == nil {
		err = p.Frame.Into(&h)
	}
	if err == nil {
		err = h.Check(len(p.FDs))
	}
	if err != nil {
		x.log.Warn("handover: message left to its sender", "error", err)
		x.Counts.Refused.Add(int64(len(h.Conns)))
		return
	}
	n := len(h.Conns)
	conns, taken := x.choose(h, p.FDs[:n])
	if slices.Contains(taken, true) && !claim(p.FDs[n], taken) {
		taken = make([]bool, n)
	}
	left := p.FDs[n:]
	for i, c := range conns {
		if !taken[i] {
			left = append(left, c.FD)
			x.Counts.Refused.Add(1)
			continue
		}
		x.Counts.Taken.Add(1)
		x.sink(c.Key)(c)
	}
	p.FDs = left
}

// claim sends the ack, and reports whether it has made us the owner of what was taken.
func claim(fd int, taken []bool) bool {
	data, err := wire.Encode(wire.Ack{Taken: taken})
	if err != nil {
		return false
	}
	if unix.Sendmsg(fd, data, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) == nil {
		return true
	}
	// The sender is dead, has withdrawn, or lives and will see our end: its last word, or the lack of it, tells.
	n, err := readPending(fd, make([]byte, 16))
	return n == 0 && err == nil
}

// readPending reads what lies in a socketpair: 0 at its end, EAGAIN if there is nothing. That the other side has closed
// without reading everything is said once, before all else.
func readPending(fd int, b []byte) (n int, err error) {
	for range 3 {
		n, _, err = unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
		if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return n, err
}

// choose says which of the connections have somebody here who serves them.
func (x *Handover) choose(h wire.Handover, fds []int) ([]Conn, []bool) {
	room := len(fds)
	if x.Room != nil {
		room = x.Room()
	}
	if rawfd.NearLimit(fds...) {
		room = 0
	}
	conns, taken := make([]Conn, len(fds)), make([]bool, len(fds))
	for i, hc := range h.Conns {
		conns[i] = Conn{FD: fds[i], Key: h.Keys[hc[0]], Idle: time.Duration(hc[1]) * time.Millisecond}
		if taken[i] = room > 0 && x.Registered(conns[i].Key); taken[i] {
			room--
		}
	}
	return conns, taken
}
