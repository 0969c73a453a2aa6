package handover

import (
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/wire"
)

// batch is how many connections one message carries.
const batch = wire.MaxFDs

const (
	// offerWait is how long a taker may leave an offer without an answer.
	offerWait = time.Second
	// offerLimit is when an offer is not made to another one any more.
	offerLimit = 2*offerWait - offerWait/4
	// fullPause is how long a full inbox is left alone, and a kernel without room for descriptors in flight.
	fullPause = 2 * time.Millisecond
)

// sending is the sending half of a Handover, under its lock.
type sending struct {
	takers  []*taker
	changed chan struct{} // closed when others take, and replaced
	offers  []*offer
	busy    bool // sendAll runs

	ctx      context.Context // ends when nothing is offered any more
	withdraw context.CancelFunc
}

// offer is an Offer on its way.
type offer struct {
	Offer
	as    Key // by which the taker takes it
	tried []*taker
	until time.Time // no other taker is tried after that; zero: it was not offered yet
}

// SetTakers says who takes what from now on. It takes the descriptors.
func (h *Handover) SetTakers(m wire.Takers, fds []int) error {
	if err := m.Check(len(fds)); err != nil {
		rawfd.CloseAll(fds)
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	old := h.takers
	h.takers = nil
	for i, pid := range m.PIDs {
		t := &taker{pid: pid, fd: fds[i], keys: m.Sets[m.Of[i]]}
		if j := slices.IndexFunc(old, func(o *taker) bool { return o.pid == pid }); j >= 0 {
			t.given = old[j].given
		}
		h.takers = append(h.takers, t)
	}
	for _, t := range old {
		t.close()
	}
	h.announce()
	return nil
}

// announce is called with the lock held.
func (h *Handover) announce() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// Changed is closed when others take than at the call.
func (h *Handover) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// HasTaker reports whether somebody takes the connections of a listener, as far as is known. Others need not be
// offered.
func (h *Handover) HasTaker(key Key) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ctx.Err() == nil && slices.ContainsFunc(h.takers, func(t *taker) bool {
		_, ok := t.takes(key)
		return ok && t.is() != takerMute
	})
}

// Withdraw takes back what is offered, and offers nothing more.
func (h *Handover) Withdraw() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.withdraw()
	h.announce() // for those that hope
}

// Give offers a connection to the other workers. It does not block; o.Done gets the answer.
func (h *Handover) Give(o Offer) { h.queue(&offer{Offer: o}) }

func (h *Handover) queue(offers ...*offer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.offers = append(h.offers, offers...)
	if !h.busy && len(h.offers) > 0 {
		h.busy = true
		go h.sendAll()
	}
}

// sendAll sends what is offered, to each taker its share with as many connections in a message as there are, and ends
// when there is nothing.
func (h *Handover) sendAll() {
	for {
		runtime.Gosched() // a drain offers thousands at once: let them come
		h.mu.Lock()
		offers, takers, changed := h.offers, h.takers, h.changed
		h.offers = nil
		if len(offers) == 0 {
			h.busy = false
			h.mu.Unlock()
			return
		}
		if h.ctx.Err() != nil {
			takers = nil
		}
		shares, hoping, left := share(offers, takers)
		h.mu.Unlock()
		for t, all := range shares {
			for part := range slices.Chunk(all, batch) {
				go h.deliver(t, part)
			}
		}
		if len(hoping) > 0 {
			go h.hope(hoping, changed)
		}
		h.keep(left)
	}
}

// hope waits for other takers, for as long as an offer may take.
func (h *Handover) hope(offers []*offer, changed <-chan struct{}) {
	due := offers[0].until
	for _, o := range offers {
		o.begin()
		due = o.until
	}
	select {
	case <-changed:
		h.queue(offers...)
	case <-time.After(time.Until(due)):
		h.keep(offers)
	}
}

// begin is called when the time of an offer begins, or has begun.
func (o *offer) begin() {
	if o.until.IsZero() {
		o.until = time.Now().Add(offerLimit)
	}
}

// deliver offers connections to a taker, and those that it does not take to others, if there is time.
func (h *Handover) deliver(t *taker, offers []*offer) {
	for _, o := range offers {
		o.tried = append(o.tried, t)
		o.begin()
	}
	taken := h.ask(t, offers)
	var again, kept []*offer
	for i, o := range offers {
		switch {
		case i < len(taken) && taken[i]:
			h.Counts.Given.Add(1)
			o.Done(true)
		case time.Now().Before(o.until):
			again = append(again, o)
		default:
			kept = append(kept, o)
		}
	}
	h.queue(again...)
	h.keep(kept)
}

// keep says to the givers that nobody has taken their connections.
func (h *Handover) keep(offers []*offer) {
	for _, o := range offers {
		h.Counts.Kept.Add(1)
		o.Done(false)
	}
}

// ask sends one message, and returns what was taken of it. If there is no room, in the inbox or for descriptors, it
// tries again and again: to be told when there is would cost more.
func (h *Handover) ask(t *taker, offers []*offer) (taken []bool) {
	ctx, cancel := context.WithTimeout(h.ctx, offerWait)
	defer cancel()
	p, err := t.send(offers)
	for passes(err) && ctx.Err() == nil {
		time.Sleep(fullPause)
		p, err = t.send(offers)
	}
	if err == nil {
		taken, err = p.await(ctx)
	}
	switch {
	case err == nil, h.ctx.Err() != nil, t.isGone():
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.EAGAIN):
		if t.mute() {
			h.log.Warn("handover: worker does not answer, it is offered nothing more", "pid", t.pid)
		}
	case !errors.Is(err, errNoAnswer):
		h.log.Warn("handover: transfer failed, keeping connections", "connections", len(offers), "error", err)
	}
	return taken
}

// passes reports an error of which there may be nothing left in a moment.
func passes(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ETOOMANYREFS) || rawfd.Exhausted(err)
}
