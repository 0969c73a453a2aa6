package handover

import (
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// batch is how many connections one message carries: with the ack socket as many descriptors as the wire allows.
const batch = wire.MaxFDs - 1

// fullWait is how long a full queue is waited for. Then nobody seems to read it, and connections stay where they are.
const fullWait = time.Second

// Give offers a connection to the other workers. It does not block; o.Done gets the answer.
func (x *Exchange) Give(o Offer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.offers = append(x.offers, o)
	if !x.sending {
		x.sending = true
		go x.sendAll()
	}
}

// sendAll sends what is offered, as many connections in a message as there are, and ends when there are none.
func (x *Exchange) sendAll() {
	for {
		runtime.Gosched() // a drain offers thousands at once: let them come
		x.mu.Lock()
		n := min(batch, len(x.offers))
		if n == 0 {
			x.offers, x.sending = nil, false
			x.mu.Unlock()
			return
		}
		offers := x.offers[:n:n]
		x.offers = x.offers[n:]
		x.mu.Unlock()
		if err := x.send(offers); err != nil {
			x.log.Warn("handover: connections stay where they are", "connections", len(offers), "error", err)
			x.answer(offers, nil)
		}
	}
}

// send sends one message and has its ack awaited.
func (x *Exchange) send(offers []Offer) error {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(theirs) }()
	data, fds, err := pack(offers)
	if err == nil {
		err = x.write(data, unix.UnixRights(append(fds, theirs)...))
	}
	if err != nil {
		_ = unix.Close(ours)
		return err
	}
	go x.awaitAck(os.NewFile(uintptr(ours), "ack"), offers)
	return nil
}

func pack(offers []Offer) ([]byte, []int, error) {
	var h wire.Handover
	var fds []int
	for _, o := range offers {
		i := slices.Index(h.Keys, o.Key)
		if i < 0 {
			i = len(h.Keys)
			h.Keys = append(h.Keys, o.Key)
		}
		h.Conns = append(h.Conns, wire.HandoverConn{int64(i), max(0, o.Idle.Milliseconds())})
		fds = append(fds, o.FD)
	}
	data, err := wire.Encode(h)
	return data, fds, err
}

// write waits for room in the queue, but not for ever.
func (x *Exchange) write(data, oob []byte) error {
	raw, err := x.give.SyscallConn()
	if err != nil {
		return err
	}
	if err := x.give.SetWriteDeadline(time.Now().Add(fullWait)); err != nil {
		return err
	}
	werr := raw.Write(func(fd uintptr) bool {
		for {
			err = unix.Sendmsg(int(fd), data, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if werr != nil {
		return werr
	}
	return err
}

// awaitAck waits until the receiver has answered, or until nobody is left who could.
func (x *Exchange) awaitAck(f *os.File, offers []Offer) {
	defer func() { _ = f.Close() }()
	buf := make([]byte, 16<<10)
	var ack wire.Ack
	n, err := f.Read(buf)
	if err == nil {
		var frame wire.Frame
		if frame, err = wire.Decode(buf[:n]); err == nil {
			err = frame.Into(&ack)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		x.log.Error("handover: ack", "error", err)
	}
	x.answer(offers, ack.Taken)
}

func (x *Exchange) answer(offers []Offer, taken []bool) {
	for i, o := range offers {
		ok := i < len(taken) && taken[i]
		if ok {
			x.Counts.Given.Add(1)
		} else {
			x.Counts.Kept.Add(1)
		}
		o.Done(ok)
	}
}
