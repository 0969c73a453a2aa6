package promises_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/status"
	"baton/master/mastertest"
	"baton/scripts/load"
)

// awaitRecycled waits until n workers have been recycled. All the time each slot has a worker that serves, and there is
// at most one process more than slots.
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

// wantNothingCut fails the test if anything went wrong with a worker.
func wantNothingCut(tb testing.TB, s mastertest.Status) {
	tb.Helper()
	if s.Crashes != 0 || s.CutConnections+s.CutRequests != 0 || len(s.Warnings) != 0 {
		tb.Errorf("%+v", s)
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
			exclusive(t)
			s := unwatchedSite(t).with("max_requests = 50")
			s.workers, s.socket = tc.workers, tc.socket
			b := start(t, s)
			clients := putLoad(t, s.listen[0], defaultLoad())
			st := awaitRecycled(t, b, 24)
			wantKept(t, wantNoLoss(t, clients))
			wantNothingCut(t, st)
		})
	}
}

// TestRecycleByAge replaces every worker again and again.
func TestRecycleByAge(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t).with(`max_age = "300ms"`)
	b := start(t, s)
	first := b.Status().PIDs("")
	clients := putLoad(t, s.listen[0], defaultLoad())
	st := awaitRecycled(t, b, 8)
	for _, pid := range st.PIDs("") {
		if slices.Contains(first, pid) {
			t.Errorf("%d is there still", pid)
		}
	}
	wantKept(t, wantNoLoss(t, clients))
	wantNothingCut(t, st)
	if log := b.Log(); !strings.Contains(log, "because=max_age") {
		t.Error("the log does not say why")
	}
}

// TestRecycleByMemory: who has eaten too much is replaced by one that has not, and only that one.
func TestRecycleByMemory(t *testing.T) {
	t.Parallel()
	exclusive(t)
	const limit = 128 << 20
	b, address := startMoody(t, map[string]any{"Workers": 2, "MaxMemory": limit})
	before := b.Status().PIDs("")
	clients := putLoad(t, address, defaultLoad())
	eater, err := b.Get(address, "/eat")
	if err != nil {
		t.Fatal(err)
	}
	awaitRecycled(t, b, 1)
	wantKept(t, wantNoLoss(t, clients))
	st := b.AwaitSettled()
	for _, pid := range before {
		if has(st, pid) == (fmt.Sprint(pid) == eater) {
			t.Errorf("%s has eaten; %v were there before; %+v", eater, before, st)
		}
	}
	for _, w := range st.Workers {
		if rss, err := mastertest.RSS(w.PID); err != nil || rss > limit {
			t.Errorf("worker %d has %d MB, %v", w.PID, rss>>20, err)
		}
	}
	if st.Crashes != 0 || st.CutConnections+st.CutRequests != 0 || st.Recycled != 1 {
		t.Errorf("%+v", st)
	}
}

// TestRecycleByMemoryInVain: a limit that every worker is above is no loop, and status says so.
func TestRecycleByMemoryInVain(t *testing.T) {
	t.Parallel()
	b := start(t, unwatchedSite(t).with("max_memory = 1"))
	st := awaitRecycled(t, b, 2)
	if len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "max_memory (1 bytes) is too small") {
		t.Errorf("warnings: %q", st.Warnings)
	}
	b.AwaitLog("longer pauses", 0, func(text string) bool { return strings.Contains(text, "again=2 pause=2s") })
}

// TestRecycleInReloads: a worker that is due, or just being replaced, is no trouble for a reload, nor the other way
// round.
func TestRecycleInReloads(t *testing.T) {
	t.Parallel()
	for _, socket := range []string{"", "reuse_port = true"} {
		t.Run(socket, func(t *testing.T) {
			t.Parallel()
			exclusive(t)
			s := unwatchedSite(t).with("max_requests = 40")
			s.socket = socket
			b := start(t, s)
			clients := putLoad(t, s.listen[0], defaultLoad())
			pace(t, 6, 0, func(i int) {
				b.Reload()
				if i%3 == 0 {
					before := b.Status().Recycled
					b.AwaitStatus("recycling in the new generation",
						func(s mastertest.Status) bool { return s.Recycled > before+1 })
				}
			})
			wantKept(t, wantNoLoss(t, clients))
			st := b.AwaitSettled()
			wantNothingCut(t, st)
			if st.Generation != 7 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestRecycleMasterKilled: whoever adopts the workers goes on with what was begun.
func TestRecycleMasterKilled(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t).with("max_requests = 40")
	b := start(t, s)
	clients := putLoad(t, s.listen[0], defaultLoad())
	for range 5 {
		before := b.AwaitStatus("a master", func(s mastertest.Status) bool { return s.MasterPID > 0 })
		st := b.AwaitStatus("a worker that is replaced", func(s mastertest.Status) bool {
			return s.Recycled > before.Recycled && len(s.PIDs("recycling")) > 0
		})
		b.Kill(st.MasterPID)
		b.AwaitStatus("another master",
			func(s mastertest.Status) bool { return s.MasterPID > 0 && s.MasterPID != st.MasterPID })
	}
	wantKept(t, wantNoLoss(t, clients))
	wantNothingCut(t, b.AwaitSettled())
}

// heldRecycling starts two workers of which one is being replaced, by one that does not get ready.
func heldRecycling(
	t *testing.T, config map[string]any,
) (b *mastertest.Baton, address string, old, young status.Worker) {
	t.Helper()
	config["MaxRequests"], config["Workers"] = 1, 2
	b, address = startMoody(t, config)
	b.WriteFile("hold", "")
	if _, err := b.Get(address, "/"); err != nil {
		t.Fatal(err)
	}
	b.AwaitStatus("a worker that is being replaced", func(s mastertest.Status) bool {
		old, young = status.Worker{}, status.Worker{}
		for _, w := range s.Workers {
			switch w.State {
			case "recycling":
				old = w
			case "starting":
				young = w
			}
		}
		return old.PID != 0 && young.PID != 0
	})
	if young.Slot != old.Slot {
		t.Errorf("%+v is to take the place of %+v", young, old)
	}
	return b, address, old, young
}

func has(s mastertest.Status, pid int) bool { return slices.Contains(s.PIDs(""), pid) }

// TestRecycleInterrupted: what may happen while a replacement starts.
func TestRecycleInterrupted(t *testing.T) {
	t.Parallel()
	replaced := func(t *testing.T, b *mastertest.Baton, old, young int) mastertest.Status {
		t.Helper()
		return b.AwaitStatus("the replacement in its place", func(s mastertest.Status) bool {
			return s.Settled() && has(s, young) && !has(s, old)
		})
	}
	for name, test := range map[string]func(t *testing.T, b *mastertest.Baton, address string, old, young int){
		"the master is killed": func(t *testing.T, b *mastertest.Baton, _ string, old, young int) {
			for range 3 {
				st := b.Status()
				b.Kill(st.MasterPID)
				b.AwaitStatus("an adopted replacement", func(s mastertest.Status) bool {
					return s.MasterPID > 0 && s.MasterPID != st.MasterPID &&
						slices.Contains(s.PIDs("recycling"), old) && slices.Contains(s.PIDs("starting"), young)
				})
			}
			letGo(t, b, "hold")
			if st := replaced(t, b, old, young); st.Crashes != 0 || st.Recycled != 1 {
				t.Errorf("%+v", st)
			}
		},
		"the worker gets ready while the master is killed": func(t *testing.T, b *mastertest.Baton, _ string, old,
			young int,
		) {
			master := b.Status().MasterPID
			signal(t, master, unix.SIGSTOP)
			letGo(t, b, "hold")
			b.Kill(master)
			replaced(t, b, old, young)
		},
		"the old one is killed": func(t *testing.T, b *mastertest.Baton, _ string, old, young int) {
			b.Kill(old)
			b.AwaitStatus("the crash", func(s mastertest.Status) bool { return !has(s, old) })
			letGo(t, b, "hold")
			if st := replaced(t, b, old, young); st.Crashes != 1 || st.Recycled != 0 {
				t.Errorf("%+v", st)
			}
		},
		"the new one is killed": func(t *testing.T, b *mastertest.Baton, address string, old, young int) {
			b.Kill(young)
			st := b.AwaitStatus("a warning", func(s mastertest.Status) bool { return len(s.Warnings) == 1 })
			if !strings.Contains(st.Warnings[0], "recycling has failed 1 times") || !has(st, old) {
				t.Errorf("%+v", st)
			}
			if _, err := b.Get(address, "/"); err != nil {
				t.Error(err)
			}
			letGo(t, b, "hold")
			b.AwaitStatus("another try",
				func(s mastertest.Status) bool { return s.Recycled > 0 && !has(s, old) && len(s.Warnings) == 0 })
		},
		"a reload": func(t *testing.T, b *mastertest.Baton, _ string, old, young int) {
			b.Signal(unix.SIGHUP)
			b.AwaitStatus("a reload", func(s mastertest.Status) bool { return s.State == "reloading" })
			letGo(t, b, "hold")
			b.AwaitGeneration(2)
			st := b.AwaitSettled()
			if st.Generation != 2 || has(st, old) || has(st, young) {
				t.Errorf("%+v", st)
			}
		},
		"the slot goes": func(t *testing.T, b *mastertest.Baton, address string, old, young int) {
			b.Signal(unix.SIGTTOU)
			b.AwaitStatus("one slot", func(s mastertest.Status) bool { return s.WorkersWanted == 1 })
			letGo(t, b, "hold")
			if st := b.AwaitSettled(); len(st.Workers) != 1 {
				t.Errorf("%+v", st)
			}
			if _, err := b.Get(address, "/"); err != nil {
				t.Error(err)
			}
		},
		"a stop": func(t *testing.T, b *mastertest.Baton, _ string, _, _ int) {
			b.Signal(unix.SIGTERM)
			wantExit(t, b, 0, shortTimeout)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, address, old, young := heldRecycling(t, map[string]any{})
			test(t, b, address, old.PID, young.PID)
		})
	}
}

// TestRecycleNeverReady: the old worker serves on, the new one is given up after ready_timeout, and status says so.
func TestRecycleNeverReady(t *testing.T) {
	t.Parallel()
	b, address, old, young := heldRecycling(t, map[string]any{"ReadyTimeout": 500 * time.Millisecond})
	st := b.AwaitStatus("a warning",
		func(s mastertest.Status) bool { return len(s.Warnings) == 1 && !has(s, young.PID) })
	if !strings.Contains(st.Warnings[0], "not ready in time") || !has(st, old.PID) || st.Recycled != 0 {
		t.Errorf("%+v", st)
	}
	for range 20 {
		if _, err := b.Get(address, "/"); err != nil {
			t.Error(err)
		}
	}
	letGo(t, b, "hold")
	b.AwaitStatus("another try", func(s mastertest.Status) bool { return s.Recycled > 0 && !has(s, old.PID) })
}
