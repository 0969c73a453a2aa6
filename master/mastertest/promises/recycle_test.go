package promises_test

import (
	"fmt"
	"strings"
	"testing"

	"baton/master/mastertest"
	"baton/master/mastertest/load"
)

// serving are the workers that serve, by slot; false if a slot has not exactly one.
func serving(s mastertest.Status) (bySlot map[int]mastertest.WorkerStatus, ok bool) {
	bySlot = map[int]mastertest.WorkerStatus{}
	for _, w := range s.Workers {
		if w.State != "serving" && w.State != "recycling" || w.Generation != s.Generation {
			continue
		}
		if _, twice := bySlot[w.Slot]; twice {
			return bySlot, false
		}
		bySlot[w.Slot] = w
	}
	return bySlot, len(bySlot) == s.WorkersWanted
}

// awaitRecycled waits until n workers have been recycled. All the time each slot has a worker that serves, and there is at
// most one process more than slots.
func awaitRecycled(tb testing.TB, b *mastertest.Baton, n int64) mastertest.Status {
	tb.Helper()
	return b.AwaitStatus(fmt.Sprint(n, " recycled workers"), func(s mastertest.Status) bool {
		if s.State == "serving" && len(s.Workers) > s.WorkersWanted+1 {
			tb.Errorf("more than one slot at a time: %+v", s.Workers)
		}
		if len(s.PIDs("serving"))+len(s.PIDs("recycling")) < s.WorkersWanted {
			tb.Errorf("a slot without a worker: %+v", s.Workers)
		}
		return s.Recycled >= n || tb.Failed()
	})
}

// wantKept fails the test if a client of a kept connection has used more than one.
func wantKept(tb testing.TB, report *load.Report) {
	tb.Helper()
	for _, c := range report.Classes {
		if c.Class != "new" && c.Connections != int64(c.Clients) {
			tb.Errorf("%d clients of class %s have used %d connections", c.Clients, c.Class, c.Connections)
		}
	}
}

// TestRecycleByRequests: dozens of workers are replaced under load, and no client notices, nor loses its connection.
func TestRecycleByRequests(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		workers int
		socket  string
	}{{1, ""}, {2, ""}, {4, ""}, {3, "reuse_port = true"}} {
		t.Run(fmt.Sprint(tc.workers, tc.socket), func(t *testing.T) {
			t.Parallel()
			heavy(t)
			s := quiet(t).with("max_requests = 50")
			s.workers, s.socket = tc.workers, tc.socket
			b := start(t, s)
			clients := putLoad(t, s.listen[0], usual())
			st := awaitRecycled(t, b, 24)
			wantKept(t, wantNoLoss(t, clients))
			if st.Crashes != 0 || st.CutConnections+st.CutRequests != 0 || len(st.Warnings) != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestRecycleByAge replaces every worker again and again, without a request.
func TestRecycleByAge(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := quiet(t).with(`max_age = "300ms"`)
	b := start(t, s)
	first := b.Status().PIDs("")
	clients := putLoad(t, s.listen[0], usual())
	st := awaitRecycled(t, b, 8)
	for _, pid := range first {
		if p, err := mastertest.ReadProc(pid); err == nil && p.State != "Z" {
			t.Errorf("%v is there still", p)
		}
	}
	wantKept(t, wantNoLoss(t, clients))
	if st.Crashes != 0 || st.CutConnections+st.CutRequests != 0 {
		t.Errorf("%+v", st)
	}
	if log := b.Log(); !strings.Contains(log, "because=max_age") {
		t.Error("the log does not say why")
	}
}
