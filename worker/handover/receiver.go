package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// takeAll takes one parcel after the other, until Stop. One that is broken, or whose descriptors there was no room for,
// goes back to its sender by the end of its ack socket.
func (h *Handover) takeAll() {
	defer close(h.done)
	for {
		p, err := h.inbox.Recv()
		switch {
		case err == nil:
			err = h.takeOne(&p)
			p.Close()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case errors.Is(err, io.EOF), isSyscall(err):
			h.log.Error("handover: inbox", "error", err)
			return
		}
		if err != nil {
			h.Counts.Refused.Add(1)
			h.log.Warn("handover: message rejected", "error", err)
		}
	}
}

// isSyscall tells an error of the socket from one of the message.
func isSyscall(err error) bool {
	var sys *os.SyscallError
	return errors.As(err, &sys)
}

// takeOne opens a parcel, answers, and passes on what it takes.
func (h *Handover) takeOne(offer *seqpacket.Packet) error {
	if err := offer.Frame.Expect(&wire.Offer{}); err != nil {
		return err
	}
	if len(offer.FDs) != 2 {
		return fmt.Errorf("offer: %d descriptors, want 2", len(offer.FDs))
	}
	box, ack := offer.FDs[0], offer.FDs[1]
	p, err := seqpacket.Receive(box)
	if errors.Is(err, io.EOF) {
		return nil // it was withdrawn
	}
	if err != nil {
		return err
	}
	defer p.Close()
	var m wire.Handover
	if err := p.Frame.Expect(&m); err != nil {
		return err
	}
	if err := m.Check(len(p.FDs)); err != nil {
		return err
	}
	conns, taken := h.choose(m, p.FDs)
	if slices.Contains(taken, true) && !claim(ack, taken) {
		taken = make([]bool, len(conns))
	}
	p.FDs = nil
	for i, c := range conns {
		if !taken[i] {
			p.FDs = append(p.FDs, c.FD)
			h.Counts.Refused.Add(1)
			continue
		}
		h.Counts.Taken.Add(1)
		h.handler(c.Key)(c)
	}
	return nil
}

// choose says which of the connections have somebody here who serves them.
func (h *Handover) choose(m wire.Handover, fds []int) ([]Conn, []bool) {
	room := len(fds)
	if h.Room != nil {
		room = h.Room()
	}
	if rawfd.NearLimit(fds...) {
		room = 0
	}
	conns, taken := make([]Conn, len(fds)), make([]bool, len(fds))
	for i, hc := range m.Conns {
		conns[i] = Conn{FD: fds[i], Key: m.Keys[hc[0]], Idle: time.Duration(hc[1]) * time.Millisecond}
		if taken[i] = room > 0 && h.Registered(conns[i].Key); taken[i] {
			room--
		}
	}
	return conns, taken
}

// claim sends the ack, and reports whether it has made us the owner of what was taken.
func claim(fd int, taken []bool) bool {
	data, err := wire.Encode(wire.Ack{Taken: taken})
	if err != nil {
		return false
	}
	if rawfd.Send(fd, data, nil) == nil {
		return true
	}
	// The sender is dead, has withdrawn, or lives and will see our end: its last word, or the lack of it, tells.
	n, err := readPending(fd, make([]byte, 16))
	return n == 0 && err == nil
}
