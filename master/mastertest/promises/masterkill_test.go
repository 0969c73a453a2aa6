package promises_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// withFailpoints starts a baton whose masters can be held and killed at the steps of a takeover.
func withFailpoints(tb testing.TB, s site) (*mastertest.Baton, *mastertest.Failpoints) {
	tb.Helper()
	steps := mastertest.NewFailpoints(tb)
	return mastertest.Start(tb, mastertest.Options{
		Config: s.String(), Env: []string{steps.Env()},
		Binary: mastertest.Build(tb, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
	}), steps
}

// putEveryKind puts clients of all classes that speak plain HTTP/1.1 to work, one or two of each, and not at full
// speed: who starves them of CPU makes their connections late, and that is not what is tested. It returns when they are
// served.
func putEveryKind(tb testing.TB, address string) *load.Runner {
	tb.Helper()
	classes, err := load.ParseClasses("new=2,reader=1,writer=2,idle=1,silent=1,pipelined=1,dribble=1,continue=1," +
		"upload=1,download=1")
	if err != nil {
		tb.Fatal(err)
	}
	r := load.Start(context.Background(),
		load.Config{Target: address, Classes: classes, MaxPause: 60 * time.Millisecond})
	mastertest.Await(tb, mastertest.Text("the first answers"), func() bool { return r.Answers() > 50 })
	return r
}

// awaitMaster waits until another master than this one serves and has taken over all that there is.
func awaitMaster(tb testing.TB, b *mastertest.Baton, but int) mastertest.Status {
	tb.Helper()
	return b.AwaitStatus(fmt.Sprint("another master than ", but), func(st mastertest.Status) bool {
		return st.Settled() && st.MasterPID != but && st.MasterPID != 0
	})
}

// TestMasterKilled is P6: whoever kills the master at any moment, the same workers serve on, and no request notices. It
// kills five masters of each of four, so that each has time to be forgiven.
func TestMasterKilled(t *testing.T) {
	t.Parallel()
	exclusive(t)
	type subject struct {
		b       *mastertest.Baton
		before  snapshot
		clients *load.Runner
	}
	var all []subject
	for range 4 {
		s := unwatchedSite(t)
		b := start(t, s)
		b.Reload() // so that it is a successor that dies
		all = append(all, subject{b: b, before: takeSnapshot(t, b), clients: putEveryKind(t, s.listen[0])})
	}
	for range 5 * *repeat {
		for _, a := range all {
			sleep(time.Duration(rand.Int64N(int64(200 * time.Millisecond))))
			masters := masters(a.b)
			a.b.Kill(masters[rand.IntN(len(masters))])
		}
	}
	for _, a := range all {
		st := awaitMaster(t, a.b, a.before.master)
		workers := st.PIDs("")
		slices.Sort(workers)
		if !slices.Equal(workers, a.before.workers) || st.Generation != a.before.generation || st.Crashes != 0 ||
			st.CutRequests != 0 {
			t.Errorf("%+v\nbefore: %v", st, a.before)
		}
		if st.MasterRestarts < 5 || !reflect.DeepEqual(st.Listeners, a.before.listeners) {
			t.Errorf("%+v", st)
		}
		a.b.Reload()
		after := takeSnapshot(t, a.b)
		if !reflect.DeepEqual(after.supervisorFDs, a.before.supervisorFDs) ||
			!reflect.DeepEqual(after.masterFDs, a.before.masterFDs) {
			t.Errorf("before %v\nafter  %v", a.before, after)
		}
	}
	for _, r := range stopAll(all[0].clients, all[1].clients, all[2].clients, all[3].clients) {
		if r.Failed() != 0 {
			t.Errorf("%d requests failed\n%s", r.Failed(), r)
		}
	}
}

// stopAll ends several loads at once: some clients take a while.
func stopAll(clients ...*load.Runner) []*load.Report {
	reports := make([]*load.Report, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { reports[i] = c.Stop() })
	}
	wg.Wait()
	return reports
}

// masters are the processes that are masters, or about to be; at least one.
func masters(b *mastertest.Baton) (pids []int) {
	for len(pids) == 0 {
		for _, p := range b.Tree() {
			if strings.Contains(mastertest.CommandLine(p.PID), " master ") {
				pids = append(pids, p.PID)
			}
		}
	}
	return pids
}

// TestMasterKilledInReload: before COMMIT nothing has happened, after it the reload is done; what is left of the other
// generation goes, and no request notices.
func TestMasterKilledInReload(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b, steps := withFailpoints(t, s)
	b.Reload()
	clients := putEveryKind(t, s.listen[0])
	for i, step := range slices.Concat(mastertest.FailpointsBeforeCommit(), mastertest.FailpointsAfterCommit()) {
		t.Run(step, func(t *testing.T) {
			before := takeSnapshot(t, b)
			committed := i >= len(mastertest.FailpointsBeforeCommit())
			await := steps.HoldAt(step)
			wait := b.StartCLI("reload")
			held := await()
			victim := before.master
			if committed {
				_ = unix.Kill(before.master, unix.SIGKILL) // it may have gone by itself
				victim = held.PID
			}
			b.Kill(victim)
			held.ReleaseOrGone()
			r := wait()
			st := awaitMaster(t, b, victim)
			after := takeSnapshot(t, b)
			if committed && (r.Code != 0 || st.Generation != before.generation+1 || !st.LastReload.OK) {
				t.Errorf("%+v, %+v", r, st)
			}
			if step == "ready" && r.Code == 0 {
				return // the kernel had the successor's COMMIT before it had the end of the sponsor
			}
			if !committed && r.Code == 0 && st.LastReload.OK && st.Generation == before.generation+1 {
				return // the master died before it had answered with an id, and `baton reload` asked the next one
			}
			if !committed && (r.Code != 1 || !strings.Contains(r.Stderr, "died") || st.LastReload.OK ||
				!slices.Equal(after.workers, before.workers)) {
				t.Errorf("%+v, %+v", r, st)
			}
			if st.Crashes != 0 || st.CutRequests+st.CutConnections != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
	b.Reload()
	takeSnapshot(t, b)
	wantNoLoss(t, clients)
}

// TestMasterKilledBeforeItListens: COMMIT was said, and a new address is not served yet. The next master does.
func TestMasterKilledBeforeItListens(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b, steps := withFailpoints(t, s)
	s.listen = append(s.listen, mastertest.FreePort(t), "unix:web.sock")
	b.WriteConfig(s.String())
	steps.KillAt("committed")
	b.Reload()
	steps.AwaitKilled("committed")
	b.AwaitSettled()
	if _, err := b.Whoami(s.listen[1]); err != nil {
		t.Error(err)
	}
	if err := mastertest.Bindable("unix:" + b.Path("web.sock")); err == nil {
		t.Error("the new Unix socket is not there")
	}
}

// TestMasterKilledWhileDraining: the deadline of a drain holds, however many masters there are until then; what it cuts
// is counted, also if nobody was there to hear of it.
func TestMasterKilledWhileDraining(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(`drain_timeout = "2s"`)
	b := start(t, s)
	long := askSlowly(t, b, s.listen[0], "/slow12", 2)
	short := askSlowly(t, b, s.listen[0], "/slow1", 2, 2)
	b.Reload()
	b.AwaitStatus("a generation that drains", func(st mastertest.Status) bool { return len(st.PIDs("draining")) > 0 })
	cut := 0
	for cut < 2 {
		b.Kill(masters(b)[0])
		select {
		case err := <-long:
			if err == nil {
				t.Fatal("a request was answered long after the drain's deadline")
			}
			cut++
		case <-time.After(600 * time.Millisecond): // so that the deadline would never come if each master began it anew
		}
	}
	for range 2 {
		if err := <-short; err != nil {
			t.Errorf("a request that had the time: %v", err)
		}
	}
	if st := b.AwaitSettled(); st.CutRequests != 2 || st.Crashes != 0 {
		t.Errorf("cut %d requests, want 2; %d crashes", st.CutRequests, st.Crashes)
	}
}

// TestWhileThereIsNoMaster: what happens meanwhile is not lost.
func TestWhileThereIsNoMaster(t *testing.T) {
	for name, tc := range map[string]struct {
		meanwhile func(b *mastertest.Baton, st mastertest.Status)
		want      func(st mastertest.Status) bool // and it is settled; nil: it ends
	}{
		"a worker dies": {
			func(b *mastertest.Baton, st mastertest.Status) { b.Kill(st.PIDs("")[0]) },
			func(st mastertest.Status) bool { return st.Crashes == 1 },
		},
		"TTIN": {
			func(b *mastertest.Baton, _ mastertest.Status) { b.Signal(unix.SIGTTIN) },
			func(st mastertest.Status) bool { return st.WorkersWanted == 3 },
		},
		"HUP": {
			func(b *mastertest.Baton, _ mastertest.Status) { b.Signal(unix.SIGHUP) },
			func(st mastertest.Status) bool { return st.Generation == 2 && st.LastReload.OK },
		},
		"TERM": {
			meanwhile: func(b *mastertest.Baton, _ mastertest.Status) { b.Signal(unix.SIGTERM) },
		},
		"baton stop": {
			meanwhile: func(b *mastertest.Baton, _ mastertest.Status) {
				if r := b.CLI("stop"); r.Code != 0 {
					t.Errorf("%+v", r)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			b, steps := withFailpoints(t, s)
			st := b.AwaitSettled()
			await := steps.HoldAt("started")
			b.Kill(st.MasterPID)
			held := await()
			tc.meanwhile(b, st)
			if tc.want == nil {
				wantExit(t, b, 0, shortTimeout)
				return
			}
			held.Release()
			st = b.AwaitStatus(name, func(now mastertest.Status) bool { return now.Settled() && tc.want(now) })
			if st.MasterRestarts != 1 {
				t.Errorf("%+v", st)
			}
			takeSnapshot(t, b)
		})
	}
}

// TestResizeIsNotLostWithItsMaster: a master that was stopped has not read the message when it dies.
func TestResizeIsNotLostWithItsMaster(t *testing.T) {
	t.Parallel()
	b := start(t, unwatchedSite(t))
	st := b.Status()
	signal(t, st.MasterPID, unix.SIGSTOP)
	b.Signal(unix.SIGTTIN)
	b.Kill(st.MasterPID)
	b.AwaitStatus("three workers", func(st mastertest.Status) bool { return st.Settled() && st.WorkersWanted == 3 })
}

// TestMasterDiesAfterFork: the worker that it has just started is in nobody's list. It goes, and another one comes.
func TestMasterDiesAfterFork(t *testing.T) {
	t.Parallel()
	b, steps := withFailpoints(t, unwatchedSite(t))
	st := b.Status()
	steps.KillAt("forked")
	b.Kill(st.PIDs("")[0])
	steps.AwaitKilled("forked")
	awaitMaster(t, b, st.MasterPID)
	takeSnapshot(t, b) // supervisor, master and workers alone
}

// crashingMaster is an init function that makes masters crash as long as there is a file.
const crashingMaster = `package main

import (
	"os"

	"baton/worker"
)

func init() {
	if _, err := os.Stat(os.Getenv("BATON_TEST_MASTER_CRASH")); err == nil && worker.Role() == worker.RoleMaster {
		os.Exit(7)
	}
}
`

// TestMasterThatCrashesAtEachStart: the workers serve on, status says what is wrong, and it heals.
func TestMasterThatCrashesAtEachStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "crash")
	s := unwatchedSite(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Env: []string{"BATON_TEST_MASTER_CRASH=" + file},
		Binary: mastertest.Build(t, mastertest.BuildOptions{Add: map[string]string{"zz_crash.go": crashingMaster}}),
	})
	before := takeSnapshot(t, b)
	clients := putLoad(t, s.listen[0], load.Mix(1, 2, 1))
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b.Kill(before.master)
	st := b.AwaitStatus("the word that there is no master", func(st mastertest.Status) bool {
		return st.State == "no master" && strings.Contains(fmt.Sprint(st.Warnings), "last: exit status 7")
	})
	workers := st.PIDs("serving")
	slices.Sort(workers)
	if st.MasterPID != 0 || !slices.Equal(workers, before.workers) || st.WorkersWanted != 2 ||
		st.SupervisorPID != b.PID() ||
		st.Generation != 1 || st.Listeners[0].Address != s.listen[0] {
		t.Errorf("%+v", st)
	}
	if r := b.CLI("status"); r.Code != 0 || !strings.Contains(r.Stdout, "no master") ||
		!strings.Contains(r.Stdout, "in a row, last: exit status 7") {
		t.Errorf("%+v", r)
	}
	if r := b.CLI("resize", "3"); r.Code != 111 || !strings.Contains(r.Stderr, "there is no master") {
		t.Errorf("resize: %+v", r)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	st = awaitMaster(t, b, 0)
	workers = st.PIDs("")
	slices.Sort(workers)
	if !slices.Equal(workers, before.workers) || st.MasterRestarts < 5 {
		t.Errorf("%+v", st)
	}
	if r := b.CLI("status"); r.Code != 0 || !strings.Contains(r.Stdout, "restarts since the start") {
		t.Errorf("%+v", r)
	}
	b.Reload()
	takeSnapshot(t, b)
	wantNoLoss(t, clients)
}

// TestMasterKilledWithBrokenFiles: the binary and the config that worked last come back. The difference on disk is one
// reload, which fails, and once the files are good again they are taken.
func TestMasterKilledWithBrokenFiles(t *testing.T) {
	t.Parallel()
	s := watchedSite(t)
	b := start(t, s)
	before := takeSnapshot(t, b)
	clients := putLoad(t, s.listen[0], load.Mix(1, 2, 1))
	b.WriteConfig("colour = 1\n")
	b.ReplaceBinaryBy([]byte("#!/bin/sh\nexit 3\n"))
	b.Kill(before.master)
	st := awaitMaster(t, b, before.master)
	b.Kill(st.MasterPID)
	st = b.AwaitStatus("the failure of the one reload",
		func(st mastertest.Status) bool { return st.Settled() && !st.LastReload.OK })
	workers := st.PIDs("")
	slices.Sort(workers)
	if !slices.Equal(workers, before.workers) || st.Generation != 1 || st.Version != "v1" || st.LastReload.ID != 1 {
		t.Errorf("%+v", st)
	}
	b.ReplaceBinary(mastertest.Build(t, mastertest.BuildOptions{}))
	s.text = "two"
	b.WriteConfig(s.String())
	b.AwaitGeneration(2)
	wantText(t, b, s.listen[0], "two")
	if st := b.AwaitSettled(); st.LastReload.ID != 2 || !st.LastReload.OK {
		t.Errorf("%+v", st.LastReload)
	}
	wantNoLoss(t, clients)
}
