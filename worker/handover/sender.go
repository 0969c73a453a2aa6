package handover

import (
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// batch is how many connections one message carries: with the ack socket as many descriptors as the wire allows.
const batch = wire.MaxFDs - 1

const (
	// offerWait is how long a taker may leave an offer without an answer.
	offerWait = time.Second
	// offerLimit is when an offer is not made to another one any more.
	offerLimit = 2*offerWait - offerWait/4
	// fullPause is how long a full inbox is left alone, and a kernel without room for descriptors in flight.
	fullPause = 2 * time.Millisecond
)

// giving is the sending half of an Exchange, under its lock.
type giving struct {
	takers  []*taker
	changed chan struct{} // closed when others take, and replaced
	offers  []*offer
	sending bool
	stopped bool                  // nothing is offered any more
	waiting map[*os.File]struct{} // ack sockets of which an answer is awaited
}

// offer is an Offer on its way.
type offer struct {
	Offer
	as    Key // by which the taker takes it
	tried []*taker
	until time.Time // no other taker is tried after that; zero: it was not offered yet
}

// SetTakers says who takes what from now on. It takes the descriptors.
func (x *Handover) SetTakers(m wire.Takers, fds []int) error {
	if err := m.Check(len(fds)); err != nil {
		rawfd.CloseAll(fds)
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	old := x.takers
	x.takers = nil
	for i, pid := range m.PIDs {
		t := &taker{pid: pid, fd: fds[i], keys: map[Key]bool{}}
		for _, k := range m.Sets[m.Of[i]] {
			t.keys[k] = true
		}
		if j := slices.IndexFunc(old, func(o *taker) bool { return o.pid == pid }); j >= 0 {
			t.given = old[j].given
		}
		x.takers = append(x.takers, t)
	}
	for _, t := range old {
		t.close()
	}
	close(x.changed)
	x.changed = make(chan struct{})
	return nil
}

// Changed is closed when others take than at the call.
func (x *Handover) Changed() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.changed
}

// Wanted reports whether somebody takes the connections of a listener, as far as is known. Others need not be offered.
func (x *Handover) Wanted(key Key) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.stopped && slices.ContainsFunc(x.takers, func(t *taker) bool {
		_, ok := t.takes(key)
		return ok && t.is() != takerMute
	})
}

// Withdraw takes back what is offered, and offers nothing more.
func (x *Handover) Withdraw() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stopped = true
	for f := range x.waiting {
		_ = f.SetReadDeadline(time.Unix(1, 0))
	}
	close(x.changed) // for those that hope
	x.changed = make(chan struct{})
}

// Give offers a connection to the other workers. It does not block; o.Done gets the answer.
func (x *Handover) Give(o Offer) { x.queue(&offer{Offer: o}) }

func (x *Handover) queue(offers ...*offer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.offers = append(x.offers, offers...)
	if !x.sending && len(x.offers) > 0 {
		x.sending = true
		go x.sendAll()
	}
}

// sendAll sends what is offered, to each taker its share with as many connections in a message as there are, and ends
// when there is nothing.
func (x *Handover) sendAll() {
	for {
		runtime.Gosched() // a drain offers thousands at once: let them come
		x.mu.Lock()
		offers := x.offers
		x.offers = nil
		if len(offers) == 0 {
			x.sending = false
			x.mu.Unlock()
			return
		}
		takers := x.takers
		if x.stopped {
			takers = nil
		}
		shares, hoping, left := share(offers, takers)
		changed := x.changed
		x.mu.Unlock()
		for t, all := range shares {
			for part := range slices.Chunk(all, batch) {
				go x.deliver(t, part)
			}
		}
		if len(hoping) > 0 {
			go x.hope(hoping, changed)
		}
		x.answer(left, false)
	}
}

// hope waits for other takers, for as long as an offer may take.
func (x *Handover) hope(offers []*offer, changed <-chan struct{}) {
	due := offers[0].until
	for _, o := range offers {
		if o.until.IsZero() {
			o.until = time.Now().Add(offerLimit)
		}
		due = o.until
	}
	select {
	case <-changed:
		x.queue(offers...)
	case <-time.After(time.Until(due)):
		x.answer(offers, false)
	}
}

// deliver offers connections to a taker, and those that it does not take to others, if there is time.
func (x *Handover) deliver(t *taker, offers []*offer) {
	now := time.Now()
	for _, o := range offers {
		o.tried = append(o.tried, t)
		if o.until.IsZero() {
			o.until = now.Add(offerLimit)
		}
	}
	taken := x.ask(t, offers)
	var again, kept []*offer
	for i, o := range offers {
		switch {
		case i < len(taken) && taken[i]:
			x.Counts.Given.Add(1)
			o.Done(true)
		case time.Now().Before(o.until):
			again = append(again, o)
		default:
			kept = append(kept, o)
		}
	}
	x.queue(again...)
	x.answer(kept, false)
}

func (x *Handover) answer(offers []*offer, taken bool) {
	for _, o := range offers {
		x.Counts.Kept.Add(1)
		o.Done(taken)
	}
}

// ask sends one message, and returns what was taken of it. If there is no room, in the inbox or for descriptors, it
// tries again and again: to be told when there is would cost more.
func (x *Handover) ask(t *taker, offers []*offer) (taken []bool) {
	begin := time.Now()
	f, err := t.send(offers)
	for passes(err) && !x.isStopped() && time.Since(begin) < offerWait {
		time.Sleep(fullPause)
		f, err = t.send(offers)
	}
	switch {
	case err == nil:
		return x.awaitAck(t, f, begin.Add(offerWait))
	case errors.Is(err, unix.EAGAIN):
		x.mute(t)
	case t.is() != takerGone:
		x.log.Warn("handover: connections stay where they are", "connections", len(offers), "error", err)
	}
	return nil
}

// passes reports an error of which there may be nothing left in a moment.
func passes(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ETOOMANYREFS) || rawfd.Exhausted(err)
}

// mute notes that a taker has let an offer wait for too long.
func (x *Handover) mute(t *taker) {
	if t.become(takerMute) {
		x.log.Warn("handover: a worker does not answer, it is offered nothing more", "pid", t.pid)
	}
}

func (x *Handover) isStopped() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stopped
}

// send sends one message, and returns our end of the ack socket.
func (t *taker) send(offers []*offer) (*os.File, error) {
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(theirs) }()
	data, fds, err := pack(offers)
	if err == nil {
		err = t.write(data, unix.UnixRights(append(fds, theirs)...))
	}
	if err != nil {
		_ = unix.Close(ours)
		return nil, err
	}
	return os.NewFile(uintptr(ours), "ack"), nil
}

func (t *taker) write(data, oob []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		t.state = takerGone
		return unix.EPIPE
	}
	err := unix.Sendmsg(t.fd, data, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	for errors.Is(err, unix.EINTR) {
		err = unix.Sendmsg(t.fd, data, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
	if err != nil && !passes(err) {
		t.state = takerGone
	}
	return err
}

func pack(offers []*offer) ([]byte, []int, error) {
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
	return data, fds, err
}

// awaitAck waits for what the receiver says, and returns what it has taken: nothing, if it is not there any more. When
// it has had its time, the offer is withdrawn.
func (x *Handover) awaitAck(t *taker, f *os.File, until time.Time) (taken []bool) {
	defer func() { _ = f.Close() }()
	defer x.awaitNot(f)
	buf := make([]byte, 16<<10)
	n, err := 0, x.await(f, until)
	if err == nil {
		n, err = f.Read(buf)
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET): // that is said before an ack that has come
		n = readAck(f, buf)
	default:
		n = withdraw(f, buf)
	}
	if n == 0 {
		x.noAck(t, err)
		return nil
	}
	var ack wire.Ack
	frame, err := wire.Decode(buf[:n])
	if err == nil {
		err = frame.Into(&ack)
	}
	if err != nil {
		x.log.Error("handover: ack", "error", err)
	}
	return ack.Taken
}

// noAck notes why a taker has said nothing.
func (x *Handover) noAck(t *taker, err error) {
	switch {
	case x.isStopped():
	case errors.Is(err, os.ErrDeadlineExceeded):
		x.mute(t)
	default:
		t.look()
	}
}

// await arms the end of the waiting. When everything has been withdrawn, that is now.
func (x *Handover) await(f *os.File, until time.Time) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stopped {
		until = time.Unix(1, 0)
	}
	x.waiting[f] = struct{}{}
	return f.SetReadDeadline(until)
}

func (x *Handover) awaitNot(f *os.File) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.waiting, f)
}

// look notes whether a taker that has not answered has closed its inbox.
func (t *taker) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := []unix.PollFd{{Fd: int32(t.fd)}}
	if n, err := unix.Poll(p, 0); t.fd < 0 || err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
		t.state = takerGone
	}
}

var withdrawn, _ = wire.Encode(wire.Withdrawn{})

// withdraw takes an offer back: afterwards nobody can ack it. It returns how much of an ack had come before.
func withdraw(f *os.File, buf []byte) (n int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		for {
			err = unix.Sendmsg(int(fd), withdrawn, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.ENOMEM) {
				break
			}
			time.Sleep(fullPause)
		}
		// If it could not be said, nobody is there.
		_ = unix.Shutdown(int(fd), unix.SHUT_RD)
	})
	return readAck(f, buf)
}

// readAck reads an ack that has come, if there is one.
func readAck(f *os.File, buf []byte) (n int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, err = readPending(int(fd), buf) })
	if err != nil {
		return 0
	}
	return n
}
