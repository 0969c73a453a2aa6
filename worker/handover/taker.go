package handover

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/wire"
)

// A taker is another worker, as one that gives sees it.
type taker struct {
	pid   int
	keys  wire.KeySet
	given int // connections that it was offered

	mu    sync.Mutex // of what follows
	fd    int        // of its inbox; -1: closed
	state takerState
}

// takerState is what a taker has shown of itself.
type takerState uint8

const (
	takerAnswers takerState = iota // as far as is known
	takerMute                      // has let an offer wait for too long
	takerGone                      // takes nothing any more
)

func (t *taker) is() takerState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// mute notes that t has let an offer wait for too long, and reports whether that is news.
func (t *taker) mute() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.state
	t.state = takerMute
	return old != takerMute
}

// isGone looks whether t has closed its inbox.
func (t *taker) isGone() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 || rawfd.Polled(t.fd, 0) != 0 {
		t.state = takerGone
	}
	return t.state == takerGone
}

// isFull reports whether t's inbox has no room.
func (t *taker) isFull() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fd >= 0 && rawfd.Polled(t.fd, unix.POLLOUT) == 0
}

// write sends a message into t's inbox.
func (t *taker) write(data, oob []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		t.state = takerGone
		return unix.EPIPE
	}
	err := rawfd.Send(t.fd, data, oob)
	if err != nil && !passes(err) {
		t.state = takerGone
	}
	return err
}

func (t *taker) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd >= 0 {
		_ = unix.Close(t.fd)
		t.fd = -1
	}
}

// takes says by which key t takes a connection, if it does.
func (t *taker) takes(k Key) (as Key, ok bool) {
	if t.keys.Has(k) {
		return k, true
	}
	return k.Any(), t.keys.Has(k.Any())
}

// share chooses a taker for each of the offers. Those that nobody takes are left, or hoping if somebody took them who
// has gone: then others will come, mostly.
func share(offers []*offer, takers []*taker) (shares map[*taker][]*offer, hoping, left []*offer) {
	shares = map[*taker][]*offer{}
	for _, o := range offers {
		best, hope := choose(o, takers)
		switch {
		case best != nil:
			best.given++
			shares[best] = append(shares[best], o)
		case hope:
			hoping = append(hoping, o)
		default:
			left = append(left, o)
		}
	}
	return shares, hoping, left
}

// choose returns the taker that has had the fewest connections of us, of those that take this one, answer, and were not
// tried for it; of equals the first.
func choose(o *offer, takers []*taker) (best *taker, hope bool) {
	for _, t := range takers {
		as, ok := t.takes(o.Key)
		if !ok {
			continue
		}
		switch state := t.is(); {
		case state == takerGone:
			hope = true
		case state == takerMute, slices.Contains(o.tried, t):
		case best == nil || t.given < best.given:
			best, o.as = t, as
		}
	}
	return best, hope
}
