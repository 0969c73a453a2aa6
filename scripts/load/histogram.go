package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1/16 wide of what they hold.
type histogram struct {
	counts [16 * 64]int64
	n      int64
	max    time.Duration
}

// bucket is the place of a duration: sixteen places for each doubling of its microseconds.
func bucket(d time.Duration) int {
	us := uint64(max(0, d.Microseconds()))
	if us < 16 {
		return int(us)
	}
	exp := bits.Len64(us) - 5
	return exp<<4 + int(us>>exp)
}

// limit is the largest duration that has its place there.
func limit(b int) time.Duration {
	if b < 16 {
		return time.Duration(b) * time.Microsecond
	}
	exp := b>>4 - 1
	return time.Duration((uint64(b&15|16)+1)<<exp-1) * time.Microsecond
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile is a duration that the share q of all did not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank, seen := int64(q*float64(h.n)), int64(0)
	for b, n := range h.counts {
		if seen += n; seen > rank {
			return min(limit(b), h.max)
		}
	}
	return h.max
}
