package handover

import (
	"context"
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

// A parcel is an offer of connections that a taker was sent: a box, which is a socket whose queue has one message with
// the connections, and the ack socket. The sender keeps a copy of the box, so that it can empty it.
type parcel struct {
	box int
	ack *os.File // our end
}

// What is said in so many words.
var (
	offerFrame, _     = wire.Encode(wire.Offer{})
	withdrawnFrame, _ = wire.Encode(wire.Withdrawn{})
)

// send sends a parcel to a taker.
func (t *taker) send(offers []*offer) (*parcel, error) {
	if t.isFull() {
		return nil, unix.EAGAIN // before the work, for it is tried again soon
	}
	box, err := pack(offers)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		_ = unix.Close(box)
		return nil, err
	}
	err = t.write(offerFrame, unix.UnixRights(box, theirs))
	_ = unix.Close(theirs)
	if err != nil {
		rawfd.CloseAll([]int{box, ours})
		return nil, err
	}
	return &parcel{box: box, ack: os.NewFile(uintptr(ours), "ack")}, nil
}

// pack returns a box with connections.
func pack(offers []*offer) (box int, err error) {
	var h wire.Handover
	var fds []int
	for _, o := range offers {
		i := slices.Index(h.Keys, o.as)
		if i < 0 {
			i = len(h.Keys)
			h.Keys = append(h.Keys, o.as)
		}
		h.Conns = append(h.Conns, wire.HandoverConn{int64(i), max(0, o.Idle.Milliseconds())})
		fds = append(fds, o.FD)
	}
	data, err := wire.Encode(h)
	if err != nil {
		return -1, err
	}
	in, box, err := seqpacket.Pair()
	if err != nil {
		return -1, err
	}
	err = rawfd.Send(in, data, unix.UnixRights(fds...))
	_ = unix.Close(in)
	if err != nil {
		_ = unix.Close(box)
		return -1, err
	}
	return box, nil
}

// errNoAnswer is why a parcel comes back whose receiver has let it go, or is dead.
var errNoAnswer = errors.New("no answer")

// await returns what the receiver says that it has taken. When ctx ends first, the offer is withdrawn. An error says
// that nothing was taken.
func (p *parcel) await(ctx context.Context) (taken []bool, err error) {
	defer p.close()
	stop := context.AfterFunc(ctx, func() { _ = p.ack.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 16<<10)
	n, err := p.ack.Read(buf)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET): // that is said before an ack that has come
		n, err = p.readAck(buf), errNoAnswer
	default:
		n = p.withdraw(buf)
	}
	if n == 0 {
		return nil, err
	}
	var ack wire.Ack
	frame, err := wire.Decode(buf[:n])
	if err == nil {
		err = frame.Into(&ack)
	}
	return ack.Taken, err
}

// withdraw takes the offer back: afterwards nobody can ack it, and its connections are in no queue. It returns how
// much of an ack had come before.
func (p *parcel) withdraw(buf []byte) (n int) {
	_ = rawfd.Control(p.ack, func(fd int) error {
		err := rawfd.Send(fd, withdrawnFrame, nil)
		for errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
			time.Sleep(fullPause)
			err = rawfd.Send(fd, withdrawnFrame, nil)
		}
		// If it could not be said, nobody is there.
		return unix.Shutdown(fd, unix.SHUT_RD)
	})
	_, _ = readPending(p.box, nil) // without room for them the kernel closes the descriptors
	return p.readAck(buf)
}

// readAck reads an ack that has come, if there is one.
func (p *parcel) readAck(buf []byte) (n int) {
	err := rawfd.Control(p.ack, func(fd int) (err error) {
		n, err = readPending(fd, buf)
		return err
	})
	if err != nil {
		return 0
	}
	return n
}

func (p *parcel) close() {
	_ = p.ack.Close()
	_ = unix.Close(p.box)
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
