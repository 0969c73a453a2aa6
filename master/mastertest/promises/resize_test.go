package promises_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// quickly is a load of new connections without a pause, and of kept ones.
type quickly struct{ fresh, kept *load.Runner }

func putQuickLoad(tb testing.TB, address string) quickly {
	tb.Helper()
	fresh, err := load.ParseClasses("new=8")
	if err != nil {
		tb.Fatal(err)
	}
	q := quickly{
		fresh: load.Start(tb.Context(), load.Config{Target: address, Classes: fresh, MaxPause: -1}),
		kept:  load.Start(tb.Context(), load.Config{Target: address, Classes: load.Mix(1, 8, 8)}),
	}
	mastertest.Await(tb, mastertest.Text("the first answers"),
		func() bool { return q.fresh.Answers() > 200 && q.kept.Answers() > 100 })
	return q
}

func (q quickly) wantNoLoss(tb testing.TB) {
	tb.Helper()
	fresh, kept := wantNoLoss(tb, q.fresh), wantNoLoss(tb, q.kept)
	tb.Logf("%d new connections, %d requests on kept ones", fresh.Total.Connections, kept.Total.Requests)
}

// resize asks for n workers and waits until they serve. Those that go may still be there.
func resize(tb testing.TB, b *mastertest.Baton, n int) {
	tb.Helper()
	if r := b.CLI("resize", fmt.Sprint(n)); r.Code != 0 {
		tb.Errorf("baton resize %d: %+v", n, r)
	}
	b.AwaitStatus(fmt.Sprint(n, " workers"), func(st mastertest.Status) bool {
		return st.WorkersWanted == n && len(st.PIDs("serving")) == n
	})
}

// TestReusePortResizeLosesNothing is P7 with a queue for each slot, and new connections at full speed: between sizes,
// with reloads that succeed, and with some that fail after they have bound sockets for more slots.
func TestReusePortResizeLosesNothing(t *testing.T) {
	t.Parallel()
	exclusive(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := unwatchedSite(t)
	s.socket = "reuse_port = true"
	// Without the race detector, which would leave the workers no time to be loaded.
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(),
		Binary: mastertest.Build(t, mastertest.BuildOptions{NoRace: true}),
	})
	broken := s
	broken.workers = 9
	broken.routes += fmt.Sprintf("[[listen]]\naddress = %q\n", taken.Addr())
	clients := putQuickLoad(t, s.listen[0])
	for i, n := range []int{1, 8, 2, 5, 1, 6, 3, 8, 1, 4} {
		resize(t, b, n)
		sleep(150 * time.Millisecond)
		switch i % 3 {
		case 1:
			b.WriteConfig(broken.String())
			if r := b.CLI("reload"); r.Code != 1 {
				t.Errorf("the port is taken: exit code %d, %s%s", r.Code, r.Stdout, r.Stderr)
			}
			b.WriteConfig(s.String())
			if st := b.Status(); st.WorkersWanted != n || len(st.PIDs("serving")) != n || st.LastReload.OK {
				t.Errorf("after a reload that has failed: %+v", st)
			}
		case 2:
			b.Reload()
		}
		sleep(150 * time.Millisecond)
		if t.Failed() {
			break
		}
	}
	clients.wantNoLoss(t)
	if st := b.AwaitSettled(); st.Crashes != 0 || st.CutConnections+st.CutRequests != 0 || len(st.Warnings) != 0 {
		t.Errorf("%+v", st)
	}
}

// TestReusePortConfigResizeLosesNothing is the same by the number in the file, with the next binary as well.
func TestReusePortConfigResizeLosesNothing(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	s.socket = "reuse_port = true"
	b := start(t, s)
	b.Upgrade(0) // now, so that nothing is built while the clients wait
	clients := putQuickLoad(t, s.listen[0])
	for i, n := range []int{1, 6, 2, 4, 1, 5} {
		s.workers = n
		b.WriteConfig(s.String())
		if i%2 == 1 {
			b.Upgrade(i)
		}
		b.Reload()
		sleep(100 * time.Millisecond)
	}
	clients.wantNoLoss(t)
	if st := b.AwaitSettled(); st.WorkersWanted != 5 || st.CutConnections+st.CutRequests != 0 {
		t.Errorf("%+v", st)
	}
}

// TestReusePortWorkerKilled: the queue of a slot whose worker has died is served by the others. What it had accepted is
// lost with it, and nothing else.
func TestReusePortWorkerKilled(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	s.socket = "reuse_port = true"
	s.workers = 4
	b := start(t, s)
	for range 3 {
		st := b.AwaitSettled()
		b.Kill(st.Workers[1].PID)
		for i, c := range connect(t, s.listen[0], 40) { // to all slots
			ask(t, c)
			if err := answered(c); err != nil {
				t.Logf("connection %d: %v", i, err)
			}
			c.Close()
		}
		b.AwaitStatus("the crash", func(now mastertest.Status) bool { return now.Crashes > st.Crashes })
		for i, c := range connect(t, s.listen[0], 40) {
			ask(t, c)
			if err := answered(c); err != nil {
				t.Errorf("connection %d, after the crash: %v", i, err)
			}
			c.Close()
		}
	}
}

// TestResizeThatCannotBe: for want of open files the size stays, whoever asked is told, and reloads work as before.
func TestResizeThatCannotBe(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	s.socket = "reuse_port = true"
	b := mastertest.Start(t, mastertest.Options{Config: s.String(), Shell: `ulimit -n 64; exec "$BATON" "$@"`})
	if r := b.CLI("resize", "60"); r.Code != 1 || !strings.Contains(r.Stderr, "open files") {
		t.Errorf("baton resize 60: %+v", r)
	}
	_, port, _ := net.SplitHostPort(s.listen[0])
	awaitListeners(t, port, map[string]int{loopback: 2})
	b.Reload("--wait")
	resize(t, b, 7)
	b.Reload("--wait")
	if r := b.CLI("resize", "2000"); r.Code != 100 {
		t.Errorf("baton resize 2000: %+v", r)
	}
	if st := b.AwaitSettled(); st.WorkersWanted != 7 || st.Crashes != 0 || len(st.Warnings) != 0 {
		t.Errorf("%+v", st)
	}
}

// TestManySlotsGo: 128 workers with a socket each for two listeners become 16, by an edit; their sockets are not in the
// first message of any worker, and one that is killed then comes back.
func TestManySlotsGo(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	s.listen = append(s.listen, mastertest.FreePort(t))
	s.socket, s.workers = "reuse_port = true", 128
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(),
		Binary: mastertest.Build(t, mastertest.BuildOptions{NoRace: true}),
	})
	s.workers = 16
	b.WriteConfig(s.String())
	b.Reload()
	st := b.AwaitSettled()
	b.Kill(st.Workers[3].PID)
	b.AwaitStatus("the crash", func(st mastertest.Status) bool { return st.Crashes == 1 && st.Settled() })
	resize(t, b, 2)
	b.Kill(b.AwaitSettled().Workers[1].PID)
	b.AwaitStatus("the crash", func(st mastertest.Status) bool { return st.Crashes == 2 && st.Settled() })
	for _, n := range []int{6, 10, 2, 6, 10, 2} {
		resize(t, b, n)
	}
	_, port, _ := net.SplitHostPort(s.listen[0])
	if n := listeners(t, port)[loopback]; n > 128 {
		t.Errorf("%d sockets, and there were 128 slots at most", n)
	}
	for _, address := range s.listen {
		wantText(t, b, address, "one")
	}
}
