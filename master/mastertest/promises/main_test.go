package promises_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/master/internal/status"
	"baton/master/mastertest"
	"baton/scripts/load"
)

// repeat makes the tests that count reloads longer: go test -run Leaks ./master/mastertest/promises -repeat 10.
var repeat = flag.Int("repeat", 1, "how many times as many reloads as usual")

func TestMain(m *testing.M) { os.Exit(mastertest.Main(m, mastertest.BuildOptions{})) }

// site is a config file in the making.
type site struct {
	top     string   // keys of the top level, each a line
	listen  []string // addresses
	workers int      // if 0, 2
	text    string   // what /text answers
	routes  string   // more of them
	socket  string   // more keys of each [[listen]]
}

func (s site) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "workers = %d\n%s\n", cmp.Or(s.workers, 2), s.top)
	for _, address := range s.listen {
		fmt.Fprintf(&b, "[[listen]]\naddress = %q\n%s\n", address, s.socket)
	}
	route := func(path, what string) { fmt.Fprintf(&b, "[[route]]\npath = %q\n%s\n", path, what) }
	route("/", "whoami = true")
	route("/echo", "echo = true")
	route("/text", fmt.Sprintf("respond = %q", s.text))
	for _, seconds := range []string{"1", "2", "6", "12"} {
		route("/slow"+seconds, fmt.Sprintf("respond = \"slow\"\ndelay = \"%ss\"", seconds))
	}
	b.WriteString(s.routes)
	return b.String()
}

// with adds lines to the top level.
func (s site) with(lines ...string) site {
	s.top += strings.Join(lines, "\n") + "\n"
	return s
}

// unwatchedSite is a site on a port of its own which is not watched: the test says when to reload.
func unwatchedSite(tb testing.TB) site {
	return site{listen: []string{mastertest.FreePort(tb)}, top: "watch = false\n", text: "one"}
}

// watchedSite is a site on a port of its own that reloads by itself.
func watchedSite(tb testing.TB) site {
	s := unwatchedSite(tb)
	s.top = ""
	return s
}

// start starts a baton with this site.
func start(tb testing.TB, s site) *mastertest.Baton {
	tb.Helper()
	return mastertest.Start(tb, mastertest.Options{Config: s.String()})
}

// machine is whose turn it is to put load on the machine.
var machine = make(chan struct{}, 1)

// exclusive waits for this test's turn, which lasts until its end.
func exclusive(tb testing.TB) {
	machine <- struct{}{}
	tb.Cleanup(func() { <-machine })
}

// defaultLoad are the clients that every promise is tested with.
func defaultLoad() []load.ClassCount { return load.Mix(4, 16, 16) }

// putLoad starts clients and returns when each kind of them has been served.
func putLoad(tb testing.TB, address string, classes []load.ClassCount) *load.Runner {
	tb.Helper()
	r := load.Start(context.Background(), load.Config{Target: address, Classes: classes})
	mastertest.Await(tb, mastertest.Text("the first answers"), func() bool { return r.Answers() > 200 })
	return r
}

// wantNoLoss ends the load; no request may have failed.
func wantNoLoss(tb testing.TB, r *load.Runner) *load.Report {
	tb.Helper()
	report := r.Stop()
	if report.Failed() != 0 {
		tb.Errorf("%d requests failed\n%s", report.Failed(), report)
	}
	return report
}

// pace calls f n times with pauses of d, and stops early when the test has failed.
func pace(tb testing.TB, n int, d time.Duration, f func(i int)) {
	tb.Helper()
	for i := range n {
		f(i)
		if tb.Failed() {
			return
		}
		sleep(d)
	}
}

// sleep lets time pass where time is what is tested: a pace, or that nothing happens.
func sleep(d time.Duration) { <-time.After(d) }

// wantText waits until /text answers so, on every connection.
func wantText(tb testing.TB, b *mastertest.Baton, address, want string) {
	tb.Helper()
	wantBody(tb, b, address, "/text", want)
}

// wantBody waits until a path is answered so, on every connection: the workers before may accept for a moment longer.
func wantBody(tb testing.TB, b *mastertest.Baton, address, path, want string) {
	tb.Helper()
	var got string
	var err error
	mastertest.Await(tb, func() string { return fmt.Sprintf("%q at %s, the last answer %q, %v", want, path, got, err) },
		func() bool {
			for range 4 {
				if got, err = b.Get(address, path); err != nil || got != want {
					return false
				}
			}
			return true
		})
}

// snapshot is what a failed reload must not change.
type snapshot struct {
	generation, master int
	workers            []int
	listeners          []status.Listener
	supervisorFDs      map[string]int
	masterFDs          map[string]int
	tree               []int
}

// takeSnapshot takes a view of a baton at rest.
func takeSnapshot(tb testing.TB, b *mastertest.Baton) snapshot {
	tb.Helper()
	s := b.AwaitSettled()
	// The master before this one may still be about to end.
	mastertest.Await(tb, func() string { return fmt.Sprint("supervisor, master and workers alone, not ", b.Tree()) },
		func() bool {
			return len(b.Tree()) == 2+len(s.Workers)
		})
	v := snapshot{generation: s.Generation, master: s.MasterPID, workers: s.PIDs(""), listeners: s.Listeners}
	slices.Sort(v.workers)
	v.supervisorFDs, v.masterFDs = restingFDs(tb, s.SupervisorPID), restingFDs(tb, s.MasterPID)
	for _, p := range b.Tree() {
		v.tree = append(v.tree, p.PID)
	}
	slices.Sort(v.tree)
	return v
}

// restingFDs are the open files of a process when they do not change any more: our own question for the status is one
// of them for a moment.
func restingFDs(tb testing.TB, pid int) (kinds map[string]int) {
	tb.Helper()
	same := 0
	mastertest.Await(tb, mastertest.Text("the open files of a process to stay the same"), func() bool {
		now, err := mastertest.FDKinds(pid)
		if err != nil {
			tb.Fatal(err)
		}
		if same++; !maps.Equal(now, kinds) {
			kinds, same = now, 0
		}
		return same == 5
	})
	return kinds
}

func (v snapshot) String() string {
	return fmt.Sprintf("generation %d, master %d, workers %v, tree %v, listeners %v, open files of the supervisor %v,"+
		" of the master %v",
		v.generation, v.master, v.workers, v.tree, v.listeners, v.supervisorFDs, v.masterFDs)
}
