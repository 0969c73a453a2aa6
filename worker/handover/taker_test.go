package handover

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func takersFor(keys ...[]Key) (all []*taker) {
	for i, of := range keys {
		all = append(all, &taker{pid: i + 1, fd: -1, keys: keySet(of...)})
	}
	return all
}

func offersOf(n int, name string) []*offer {
	all := make([]*offer, n)
	for i := range all {
		all[i] = &offer{Offer: Offer{Conn: Conn{Key: key(name)}}}
	}
	return all
}

// TestShareIsEven: however the connections come, one by one or in bursts, all takers have got the same in the end.
func TestShareIsEven(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		keys := make([][]Key, 1+r.IntN(8))
		for i := range keys {
			keys[i] = []Key{key("k")}
		}
		takers, n := takersFor(keys...), 0
		for range 1 + r.IntN(10) {
			burst := r.IntN(70)
			if r.IntN(2) == 0 {
				burst = r.IntN(2)
			}
			n += burst
			shares, hoping, left := share(offersOf(burst, "k"), takers)
			got := 0
			for _, all := range shares {
				got += len(all)
			}
			if got != burst || len(hoping)+len(left) != 0 {
				t.Fatalf("seed %d: %d of %d, %d hope, %d are left", seed, got, burst, len(hoping), len(left))
			}
		}
		for _, taker := range takers {
			if fair := n / len(takers); taker.given < fair || taker.given > fair+1 {
				t.Fatalf("seed %d: %d of %d connections for one of %d", seed, taker.given, n, len(takers))
			}
		}
	}
}

// TestGenerationsStayEven: many generations with few or many connections in each worker, which all begin at their own
// slot: no worker has more than its share and one for every other, and a usual number of them is spread well.
func TestGenerationsStayEven(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		n := 2 + r.IntN(6)
		have := make([]int, n)
		total := 1 + r.IntN(40*n)
		for range total {
			have[min(r.IntN(n), r.IntN(n))]++
		}
		for generation := range 10 {
			next := make([]int, n)
			for slot, mine := range have {
				var keys [][]Key
				for range n {
					keys = append(keys, []Key{key("k")})
				}
				takers := takersFor(keys...) // the first is that of the same slot, see takersOf in package master
				shares, _, _ := share(offersOf(mine, "k"), takers)
				for i, taker := range takers {
					next[(slot+i)%n] += len(shares[taker])
				}
			}
			have = next
			for _, got := range have {
				if most := (total+n-1)/n + n - 1; generation > 0 && got > most {
					t.Fatalf("seed %d: %v of %d connections, want at most %d in one", seed, have, total, most)
				}
			}
		}
	}
}

// TestShareRules: who is not asked, and why.
func TestShareRules(t *testing.T) {
	t.Parallel()
	k, other, anybody := key("k"), key("other"), key("k").Any()
	first := func(taker *taker, _ *offer) { taker.state = takerMute }
	gone := func(taker *taker, _ *offer) { taker.state = takerGone }
	tried := func(taker *taker, o *offer) { o.tried = append(o.tried, taker) }
	for _, tt := range []struct {
		name  string
		keys  [][]Key
		first func(taker *taker, o *offer) // what the first taker is
		want  string                       // the pid of the taker, "left" or "hoping"
		as    Key
	}{
		{"by its name", [][]Key{{other}, {k}}, nil, "2", k},
		{"one that is no more, by its port and protocol", [][]Key{{other}, {other, anybody}}, nil, "2", anybody},
		{"its name before the others", [][]Key{{anybody, k}}, nil, "1", k},
		{"nobody takes it", [][]Key{{other}}, nil, "left", Key{}},
		{"there is nobody", nil, nil, "left", Key{}},
		{"who has not answered is not asked again", [][]Key{{k}, {k}}, first, "2", k},
		{"nobody answers", [][]Key{{k}}, first, "left", Key{}},
		{"who has not taken it is not asked again", [][]Key{{k}, {k}}, tried, "2", k},
		{"who has gone has somebody in his place soon", [][]Key{{k}}, gone, "hoping", Key{}},
		{"the one that has had fewer", [][]Key{{k}, {k}}, func(taker *taker, _ *offer) { taker.given = 1 }, "2", k},
		{"of equals the first", [][]Key{{k}, {k}}, nil, "1", k},
	} {
		takers, offers := takersFor(tt.keys...), offersOf(1, "k")
		if tt.first != nil {
			tt.first(takers[0], offers[0])
		}
		shares, hoping, left := share(offers, takers)
		got := map[bool]string{len(left) == 1: "left", len(hoping) == 1: "hoping"}[true]
		for taker := range shares {
			got = fmt.Sprint(taker.pid)
		}
		if got != tt.want || offers[0].as != tt.as {
			t.Errorf("%s: %s as %v, want %s as %v", tt.name, got, offers[0].as, tt.want, tt.as)
		}
	}
}
