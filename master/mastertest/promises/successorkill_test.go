package promises_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestSuccessorKilledAtAnyMoment: the reload has failed and nothing has changed, or it is done; `baton reload` says
// which.
func TestSuccessorKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b := start(t, s)
	began := time.Now()
	b.Reload()
	usual := time.Since(began) // how long a reload takes here
	clients := putEveryKind(t, s.listen[0])
	failed, done := 0, 0
	for range 20 * *repeat {
		before := b.AwaitSettled()
		wait := b.StartCLI("reload")
		sleep(time.Duration(rand.Int64N(int64(usual))))
		for _, pid := range masters(b) {
			if pid != before.MasterPID {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		r := wait()
		after := b.AwaitSettled()
		switch {
		case r.Code == 1 && after.Generation == before.Generation && slices.Equal(before.PIDs(""), after.PIDs("")) &&
			!after.LastReload.OK:
			failed++
		case r.Code == 0 && after.Generation == before.Generation+1 && after.LastReload.OK:
			done++
		default:
			t.Errorf("%+v: before %+v, after %+v", r, before, after)
		}
	}
	t.Logf("%d reloads failed, %d were done", failed, done)
	takeSnapshot(t, b)
	wantNoLoss(t, clients)
}

// TestSuccessorsWorkerKilled: before the successor asks for COMMIT, a worker that ends is a failed reload; then it is a
// crash, and is replaced.
func TestSuccessorsWorkerKilled(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b, steps := withFailpoints(t, s)
	b.Reload()
	clients := putLoad(t, s.listen[0], load.Mix(1, 2, 1))
	for i, step := range []string{"forked", "ready", "forked", "ready"} {
		before := takeSnapshot(t, b)
		await := steps.HoldAt(step)
		wait := b.StartCLI("reload")
		held := await()
		var workers []int
		for _, p := range b.Tree() {
			if p.PPID == held.PID && strings.Contains(mastertest.CommandLine(p.PID), " worker ") {
				workers = append(workers, p.PID)
			}
		}
		if len(workers) == 0 {
			t.Fatal("the successor has no worker")
		}
		victim := workers[i/2%len(workers)]
		b.Kill(victim)
		mastertest.Await(t, mastertest.Text("the worker's end"), func() bool {
			p, err := mastertest.ReadProc(victim)
			return err != nil || p.State == "Z"
		})
		held.Release()
		r := wait()
		if step == "forked" {
			if r.Code != 1 || !strings.Contains(r.Stderr, "ended before it was ready") {
				t.Errorf("%+v", r)
			}
			wantSame(t, before, b)
			continue
		}
		if st := b.AwaitSettled(); r.Code != 0 || st.Generation != before.generation+1 || st.Crashes != int64(1+i/2) {
			t.Errorf("%+v, %+v", r, st)
		}
	}
	wantNoLoss(t, clients)
}

// TestSupersededMasterStands: a master that does not go is in nobody's way, and is killed after a second.
func TestSupersededMasterStands(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b, steps := withFailpoints(t, s)
	clients := putEveryKind(t, s.listen[0])
	for range *repeat {
		before := b.AwaitSettled()
		await := steps.HoldAt("ready")
		b.Signal(unix.SIGHUP)
		held := await()
		signal(t, before.MasterPID, unix.SIGSTOP)
		held.Release()
		if st := b.AwaitGeneration(before.Generation + 1); st.LastReload.Error != "" {
			t.Errorf("%+v", st)
		}
		b.AwaitSettled()
	}
	takeSnapshot(t, b)
	wantNoLoss(t, clients)
}
