package promises_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/status"
	"baton/master/mastertest"
	"baton/scripts/load"
)

// reloads is how many a test of P1 makes, a quarter of a second apart.
func reloads() int {
	if testing.Short() {
		return 5
	}
	return 30 * *repeat
}

// TestReloadLosesNothing is P1.
func TestReloadLosesNothing(t *testing.T) {
	cases := map[string]struct {
		// before is called before each reload; it returns the version that is to answer afterwards, or "".
		before func(b *mastertest.Baton, s site, i int) string
	}{
		"HUP":        {func(*mastertest.Baton, site, int) string { return "" }},
		"new binary": {func(b *mastertest.Baton, _ site, i int) string { return b.Upgrade(i) }},
		"new workers": {func(b *mastertest.Baton, s site, i int) string {
			s.workers = 1 + i%6
			b.WriteConfig(s.String())
			return ""
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exclusive(t)
			s := unwatchedSite(t)
			b := start(t, s)
			if name == "new binary" {
				b.Upgrade(0) // now, so that nothing is built while the clients wait
			}
			clients := putLoad(t, s.listen[0], defaultLoad())
			var versions []string
			pace(t, reloads(), 250*time.Millisecond, func(i int) {
				version := tc.before(b, s, i)
				b.Signal(unix.SIGHUP)
				st := b.AwaitGeneration(2 + i)
				if st.Generation != 2+i {
					t.Errorf("reload %d made generation %d", i+1, st.Generation)
				}
				if version != "" && st.Version != version {
					t.Errorf("reload %d: version %s, want %s", i+1, st.Version, version)
				}
				if version != "" {
					versions = append(versions, version)
				}
			})
			report := wantNoLoss(t, clients)
			if got := len(report.Generations); got != reloads()+1 {
				t.Errorf("%d generations have answered, want %d", got, reloads()+1)
			}
			for _, v := range versions {
				if report.Versions[v] == 0 {
					t.Errorf("version %s has never answered", v)
				}
			}
			t.Logf("%d requests on %d connections, p99.9 %v", report.Total.Requests, report.Total.Connections,
				report.Total.Latency.P999)
		})
	}
}

// TestConnectionsLive is P10: clients on plain HTTP/1.1 keep their TCP connections over any number of generations.
func TestConnectionsLive(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b := start(t, s)
	classes, err := load.ParseClasses("reader=16,writer=16,idle=16,aged=16")
	if err != nil {
		t.Fatal(err)
	}
	clients := putLoad(t, s.listen[0], classes)
	pace(t, 20, 100*time.Millisecond, func(i int) {
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(2 + i)
	})
	report := wantNoLoss(t, clients)
	for _, c := range report.Classes {
		if c.Connections != int64(c.Clients) {
			t.Errorf("%d clients of class %s have used %d connections", c.Clients, c.Class, c.Connections)
		}
	}
}

// TestReloadLosesNothingOnUnixSocket is P1 on the other kind of socket.
func TestReloadLosesNothingOnUnixSocket(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	s.listen = append(s.listen, "unix:web.sock")
	b := start(t, s)
	clients := putLoad(t, "unix:"+b.Path("web.sock"), defaultLoad())
	pace(t, 10, 200*time.Millisecond, func(i int) {
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(2 + i)
	})
	wantNoLoss(t, clients)
	b.Stop()
	if left, _ := filepath.Glob(b.Path("web.sock")); len(left) > 0 {
		t.Error("left behind: the socket that was served")
	}
}

// TestSlowClientsLoseNothing: those who take their time, over reloads.
func TestSlowClientsLoseNothing(t *testing.T) {
	t.Parallel()
	exclusive(t)
	large := make([]byte, 4<<20)
	for i := range large {
		large[i] = byte(i * 31 >> 3)
	}
	s := unwatchedSite(t)
	s.routes = "[[route]]\npath = \"/files\"\nstatic = \"files\"\n"
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(),
		Files:  map[string]string{"files/large": string(large)},
	})
	classes, err := load.ParseClasses("idle=8,aged=8,silent=8,dribble=4,continue=4,upload=4,download=4")
	if err != nil {
		t.Fatal(err)
	}
	clients := load.Start(t.Context(), load.Config{
		Target: s.listen[0], Classes: classes, LargePath: "/files/large",
		Large: large,
	})
	mastertest.Await(t, mastertest.Text("the first answers"), func() bool { return clients.Answers() > 20 })
	pace(t, 10, 400*time.Millisecond, func(i int) {
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(2 + i)
	})
	wantNoLoss(t, clients)
}

// TestStorm is P4: 200 HUPs in two seconds are a few reloads, and the last of them has read what the file said after
// the last HUP.
func TestStorm(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b := start(t, s)
	clients := putLoad(t, s.listen[0], defaultLoad())
	s.text = "before the last"
	pace(t, 199, 10*time.Millisecond, func(i int) {
		if i == 150 {
			b.WriteConfig(s.String())
		}
		b.Signal(unix.SIGHUP)
	})
	s.text = "last"
	b.WriteConfig(s.String())
	b.Signal(unix.SIGHUP)
	wantText(t, b, s.listen[0], "last")
	st := b.AwaitSettled()
	if !st.LastReload.OK {
		t.Errorf("the last reload: %s", st.LastReload.Error)
	}
	if st.Generation < 2 || st.Generation > 201 {
		t.Errorf("generation %d after 200 HUPs", st.Generation)
	}
	t.Logf("200 HUPs were %d reloads", st.Generation-1)
	wantNoLoss(t, clients)
	b.Stop()
}

// TestLastEditIsInForce is P4: a HUP that comes while a reload has read the file already is not lost.
func TestLastEditIsInForce(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s)
	clients := putLoad(t, s.listen[0], load.Mix(2, 4, 4))
	pairs := 50
	if testing.Short() {
		pairs = 20
	}
	for i := range pairs {
		for _, half := range []string{"a", "b"} {
			s.text = fmt.Sprint(i, half)
			b.WriteConfig(s.String())
			b.Signal(unix.SIGHUP)
			if half == "a" {
				sleep(rand.N(20 * time.Millisecond))
			}
		}
		wantText(t, b, s.listen[0], s.text)
	}
	wantNoLoss(t, clients)
}

// TestReloadWhileDraining is P4: a reload is not refused, nor delayed, because older generations still work.
func TestReloadWhileDraining(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s)
	var requests []heldRequest
	ask := func() {
		for range 4 {
			requests = append(requests, hold(t, s.listen[0]))
		}
	}
	reload := func() {
		t.Helper()
		b.Reload()
		// The old workers accept until they are told to drain, and that is after the new ones do.
		b.AwaitStatus("the drain of the old workers", func(st mastertest.Status) bool {
			return !slices.ContainsFunc(st.Workers, func(w status.Worker) bool {
				return w.Generation < st.Generation && w.State != "draining"
			})
		})
	}
	ask()
	reload()
	ask()
	reload()
	st := b.Status()
	if st.Generation != 3 || len(st.PIDs("draining")) == 0 {
		t.Errorf("want generation 3 and two that drain, have %+v", st)
	}
	old := map[int]bool{}
	for _, w := range st.Workers {
		if w.State == "draining" {
			old[w.Generation] = true
		}
	}
	if !old[1] || !old[2] {
		t.Errorf("generations that drain: %v, want 1 and 2", old)
	}
	for _, h := range requests {
		h.wantFinished()
	}
	if st := b.AwaitSettled(); st.CutRequests != 0 || st.CutConnections != 0 {
		t.Errorf("cut: %d requests, %d connections", st.CutRequests, st.CutConnections)
	}
}

// TestReloadTellsTheTruth is P8.
func TestReloadTellsTheTruth(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s)

	t.Run("four at the same time", func(t *testing.T) {
		for round, good := range []bool{true, false, true} {
			text := s.String()
			if !good {
				text += "unknown = 1\n"
			}
			b.WriteConfig(text)
			var all sync.WaitGroup
			for i := range 4 {
				all.Go(func() {
					r := b.CLI("reload")
					if want := map[bool]int{true: 0, false: 1}[good]; r.Code != want {
						t.Errorf("round %d, reload %d: exit code %d, want %d: %s%s", round, i, r.Code, want, r.Stdout,
							r.Stderr)
					}
					if !good && !strings.Contains(r.Stderr, "unknown") {
						t.Errorf("round %d, reload %d: no reason in %q", round, i, r.Stderr)
					}
				})
			}
			all.Wait()
		}
	})

	t.Run("wait", func(t *testing.T) {
		request := hold(t, s.listen[0])
		reload, returned := b.StartCLI("reload", "--wait"), make(chan mastertest.Result, 1)
		go func() { returned <- reload() }()
		b.AwaitStatus("the drain", func(st mastertest.Status) bool { return len(st.PIDs("draining")) > 0 })
		select {
		case r := <-returned:
			t.Fatalf("reload --wait returned before the last request of the old generation: %+v", r)
		case <-time.After(300 * time.Millisecond): // it would have been told by then
		}
		request.wantFinished()
		if r := <-returned; r.Code != 0 {
			t.Errorf("%+v", r)
		}
		if st := b.Status(); !st.Settled() {
			t.Errorf("reload --wait returned before the old generation had gone: %+v", st)
		}
	})

	t.Run("nobody there", func(t *testing.T) {
		if r := b.CLI("reload", "--control", b.Path("nobody.sock")); r.Code != 111 {
			t.Errorf("exit code %d, want 111: %s", r.Code, r.Stderr)
		}
	})
}
