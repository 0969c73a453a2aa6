package handover

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A taker is another worker, as one that gives sees it.
type taker struct {
	pid   int
	keys  map[Key]bool
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

// become reports whether that is news.
func (t *taker) become(s takerState) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.state
	t.state = s
	return old != s
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
	if t.keys[k] {
		return k, true
	}
	return k.Any(), t.keys[k.Any()]
}

// share chooses a taker for each of the offers: the one that has had the fewest connections of us, of those that take
// it, answer, and were not tried for it; of equals the first. What is left for those that nobody takes is hope, if one
// that did has gone: then others will come, mostly.
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

func choose(o *offer, takers []*taker) (best *taker, hope bool) {
	for _, t := range takers {
		as, ok := t.takes(o.Key)
		if !ok {
			continue
		}
		switch {
		case t.is() == takerGone:
			hope = true
		case t.is() == takerMute, slices.Contains(o.tried, t):
		case best == nil || t.given < best.given:
			best, o.as = t, as
		}
	}
	return best, hope
}
