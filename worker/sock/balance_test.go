package sock

import (
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// balances are those of n processes.
func balances(t *testing.T, n int) []*Balance {
	t.Helper()
	fd, err := NewBalance(n)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	all := make([]*Balance, n)
	for i := range all {
		if all[i], err = OpenBalance(fd, i); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenBalance(fd, n); err == nil {
		t.Errorf("there are more than %d", n)
	}
	return all
}

// TestBehind: who lets whom go first.
func TestBehind(t *testing.T) {
	t.Parallel()
	const now = 7
	for name, tt := range map[string]struct {
		took [3]int // in this window; -1: has not joined
		want []int  // whom the first one waits for
	}{
		"nobody has accepted":    {[3]int{0, 0, 0}, nil},
		"all the same":           {[3]int{5, 5, 5}, nil},
		"one ahead of all":       {[3]int{1, 0, 0}, []int{1, 2}},
		"one as far":             {[3]int{1, 0, 1}, nil},
		"one ahead of the mean":  {[3]int{4, 2, 4}, []int{1}},
		"behind the others":      {[3]int{3, 4, 9}, nil},
		"nobody else is there":   {[3]int{50, -1, -1}, nil},
		"a larger burst":         {[3]int{16, 14, 12}, []int{2}},
		"in the mean":            {[3]int{16, 14, 13}, nil},
		"a flood has more leave": {[3]int{800, 700, 698}, []int{2}},
		"and takes it":           {[3]int{800, 700, 699}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := balances(t, 3)
			for i, n := range tt.took {
				if n >= 0 {
					all[i].join()
				}
				for range n {
					all[i].took(now)
				}
			}
			if got := indexes(all[0].behind(now)); !slices.Equal(got, tt.want) {
				t.Errorf("waits for %v, want %v", got, tt.want)
			}
			if got := all[0].behind(now + 1); len(got) > 0 {
				t.Errorf("in the next window it waits for %v", got)
			}
		})
	}
}

func indexes(behind map[int]uint64) (all []int) {
	for i := range behind {
		all = append(all, i)
	}
	slices.Sort(all)
	return all
}

// A process that does not come is waited for once, and again when it has accepted, or after a while.
func TestAbsent(t *testing.T) {
	t.Parallel()
	all := balances(t, 2)
	for _, b := range all {
		b.join()
	}
	want := func(what string, window uint32, want bool) {
		t.Helper()
		if got := len(all[0].behind(window)) > 0; got != want {
			t.Errorf("%s: waits: %v", what, got)
		}
	}
	all[0].took(7)
	want("ahead", 7, true)
	all[0].giveUp(7, all[0].behind(7))
	want("waited in vain", 7, false)
	all[1].took(8)
	all[0].took(8)
	all[0].took(8)
	want("it comes late", 8, false)
	all[0].took(9)
	want("it has come", 9, true)
	all[0].giveUp(9, all[0].behind(9))
	const later = 9 + absentWindows
	all[0].took(later - 1)
	want("it does not come", later-1, false)
	all[0].took(later)
	want("long after", later, true)
	all[1].Leave()
	want("it has left", later, false)
	all[1].took(later)
	if n := all[1].words[1].Load(); n != 0 {
		t.Errorf("what has left writes %x", n)
	}
}

// A process that leaves does not take its successor in the same place with it.
func TestSuccessorStays(t *testing.T) {
	t.Parallel()
	all := balances(t, 1)
	all[0].join()
	next := &Balance{used: all[0].used, words: all[0].words}
	next.took(7)
	all[0].Leave()
	if all[0].words[0].Load() != word(7, 1) {
		t.Errorf("%x", all[0].words[0].Load())
	}
}

// TestBursts: connections that come all at once are spread over those that accept. A single burst may meet one that
// does not run for a while, on a busy machine; ten do not.
func TestBursts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		accept, conns int
		most          int // in one, in the mean of ten bursts
	}{
		"8 on 2": {2, 8, 6}, "64 on 8": {8, 64, 24},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, network, address string) {
				sum := 0
				for range 10 {
					ln, all := listening(t, network, address, balances(t, tt.accept)...)
					got := burst(t, ln, all, tt.conns)
					sum += slices.Max(got)
					t.Log(got)
					_ = ln.Close()
				}
				if sum > 10*tt.most {
					t.Errorf("in the middle %d in one", sum/10)
				}
			})
		})
	}
}

// burst makes so many connections and returns how many each of the Listeners has accepted.
func burst(t *testing.T, ln net.Listener, all []*Listener, conns int) []int {
	t.Helper()
	served := make(chan int, conns)
	for i, l := range all {
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				served <- i
				_ = c.Close()
			}
		}()
	}
	for range conns {
		dial(t, ln)
	}
	counts := make([]int, len(all))
	for range conns {
		counts[<-served]++
	}
	for _, l := range all {
		_ = l.Close()
	}
	return counts
}
