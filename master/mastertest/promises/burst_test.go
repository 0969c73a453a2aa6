package promises_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"baton/master/mastertest"
)

// TestBurstsAreSpread: connections that come all at once do not land in one worker. A worker may not run for a while on
// a busy machine, so the bound is for the mean of ten bursts.
func TestBurstsAreSpread(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ workers, conns, most int }{{2, 8, 6}, {8, 64, 24}} {
		t.Run(fmt.Sprintf("%d on %d", tt.conns, tt.workers), func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			s.workers = tt.workers
			b := start(t, s)
			var most []int64
			sum := int64(0)
			for range 10 {
				most = append(most, mostOfBurst(t, b, s.listen[0], int64(tt.conns)))
				sum += most[len(most)-1]
			}
			if sum > 10*int64(tt.most) {
				t.Errorf("of %d connections on %d workers one had %v", tt.conns, tt.workers, most)
			}
		})
	}
}

// mostOfBurst opens n connections, returns how many one worker has at most, and closes them.
func mostOfBurst(tb testing.TB, b *mastertest.Baton, address string, n int64) (most int64) {
	tb.Helper()
	var all []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, c)
	}
	b.AwaitStatus("the connections", func(s mastertest.Status) bool {
		most = 0
		for _, w := range s.Workers {
			most = max(most, w.Connections)
		}
		return open(s, "serving") == n
	})
	for _, c := range all {
		c.Close()
	}
	b.AwaitStatus("no connection", func(s mastertest.Status) bool { return open(s, "serving") == 0 })
	return most
}
