package promises_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// instances are the processes of the foreign program.
func instances(b *mastertest.Baton) (pids []int) {
	for _, p := range b.Tree() {
		if env, err := mastertest.Environ(p.PID); err == nil && env["BATON_SLOT"] != "" {
			pids = append(pids, p.PID)
		}
	}
	slices.Sort(pids)
	return pids
}

func anyOf(pids, all []int) bool {
	return slices.ContainsFunc(pids, func(pid int) bool { return slices.Contains(all, pid) })
}

// awaitInstances waits until there are n instances, and none of those that have to go.
func awaitInstances(tb testing.TB, b *mastertest.Baton, n int, gone ...int) (now []int) {
	tb.Helper()
	mastertest.Await(tb, func() string { return fmt.Sprintf("%d instances, none of %v, now %v", n, gone, now) },
		func() bool {
			now = instances(b)
			return len(now) == n && !anyOf(gone, now)
		})
	return now
}

// TestProgramKilled: kill -9 of an instance, of a worker, of the master and of the supervisor, under load. What was
// killed comes back, and nothing of it stays; only what it held is lost; only the supervisor's death ends everything.
// With -repeat 5 it is 60 random moments.
func TestProgramKilled(t *testing.T) {
	t.Parallel()
	exclusive(t)
	opts := programSite(t)
	opts.Config = strings.Replace(opts.Config, `"]`, `", "{socket}"]`, 1) // a file that could be left behind
	opts.Binary = mastertest.Build(t, mastertest.BuildOptions{NoRace: true})
	address := addressOf(opts)
	b := mastertest.Start(t, opts)
	wantInstancesShown(t, b)
	k := &programKiller{killer: newKiller(t, b)}
	clients := load.Start(t.Context(), load.Config{
		Target: address, Classes: load.Mix(2, 8, 8), Seed: k.seed, Excuse: k.excuse,
	})
	mastertest.Await(t, mastertest.Text("the first answers"), func() bool { return clients.Answers() > 200 })

	before := instances(b)
	k.killInstance(before[0])
	awaitInstances(t, b, 2, before[0])
	wantExitShown(t, b)
	worker := b.AwaitSettled().Workers[0]
	mastertest.KillHolding(worker.PID, k.note)
	b.AwaitStatus("another worker", func(s mastertest.Status) bool {
		return s.Settled() && !slices.Contains(s.PIDs(""), worker.PID)
	})
	before = awaitInstances(t, b, 2, worker.ProgramPID)
	b.Kill(b.Status().MasterPID)
	b.AwaitSettled()
	if now := awaitInstances(t, b, 2); !slices.Equal(now, before) {
		t.Errorf("instances %v are %v after the master's death", before, now)
	}

	k.killAtRandom(12 * *repeat)
	b.AwaitSettled()
	b.Reload()
	awaitInstances(t, b, 2)
	wantBody(t, b, address, "/", "one")
	t.Logf("\n%s", wantNoLoss(t, clients))
	b.Kill(b.PID())
	b.AwaitGone()
}

// wantInstancesShown fails the test unless the status has the instances, and nothing else.
func wantInstancesShown(tb testing.TB, b *mastertest.Baton) {
	tb.Helper()
	all := awaitInstances(tb, b, 2)
	for _, w := range b.Status().Workers {
		if w.Program != "web" || !slices.Contains(all, w.ProgramPID) {
			tb.Errorf("%+v, the instances are %v", w, all)
		}
	}
	res, first := b.CLI("status", "--config", "site.toml"), fmt.Sprintf("web (pid %d)", all[0])
	if !strings.Contains(res.Stdout, first) {
		tb.Errorf("the status does not show the instances:\n%s", res.Stdout)
	}
}

// wantExitShown fails the test unless status and log tell that an instance was killed.
func wantExitShown(tb testing.TB, b *mastertest.Baton) {
	tb.Helper()
	res := b.CLI("status", "--config", "site.toml")
	if !strings.Contains(res.Stdout, "exit         program web, slot ") ||
		!strings.Contains(res.Stdout, ": killed by SIGKILL, ") || !strings.Contains(b.Log(), `state="killed by SIGKILL"`) {
		tb.Errorf("how the instance has ended is not told:\n%s", res.Stdout)
	}
}

// programKiller kills instances as well. A client cannot know which of them had its request: what is excused is a
// request that was begun before the end of one, and failed after it was stopped.
type programKiller struct {
	*killer
	deaths []death
}

// death is from the moment when an instance was stopped to that when nothing of it was open any more.
type death struct{ from, to time.Time }

func (k *programKiller) killInstance(pid int) {
	n := len(k.deaths)
	mastertest.KillHolding(pid, func(map[mastertest.Ends]bool) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.deaths = append(k.deaths, death{time.Now(), time.Now().Add(mastertest.Timeout)})
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.deaths) > n {
		k.deaths[n].to = time.Now()
	}
}

func (k *programKiller) excuse(f load.Failure) string {
	k.mu.Lock()
	inDeath := slices.ContainsFunc(k.deaths, func(d death) bool { return f.Began.Before(d.to) && f.Time.After(d.from) })
	k.mu.Unlock()
	if inDeath {
		return fmt.Sprintf("in a killed instance (%s)", f.Kind)
	}
	return k.killer.excuse(f)
}

// killAtRandom kills until n are killed: an instance, a worker or a master, at random moments, in most of which a
// reload is going on.
func (k *programKiller) killAtRandom(n int) {
	k.tb.Helper()
	reloads, failed, kills := 0, 0, map[string]int{}
	for ; reloads < 10*n && !k.tb.Failed() && kills["instance"]+kills["worker"]+kills["master"] < n; reloads++ {
		k.b.AwaitSettled()
		reload := k.b.StartCLI("reload")
		sleep(time.Duration(k.rand.IntN(150)) * time.Millisecond)
		role := []string{"instance", "worker", "master"}[k.rand.IntN(3)]
		if k.killOne(role) {
			kills[role]++
		}
		if reload().Code != 0 {
			failed++ // what was killed was not ready yet, or was the master who had the reload
		}
	}
	k.tb.Logf("killed in %d reloads, of which %d failed for it: %v", reloads, failed, kills)
}

// killOne kills one of a role, if there is one.
func (k *programKiller) killOne(role string) bool {
	pids := map[string]func() []int{
		"instance": func() []int { return instances(k.b) },
		"worker":   k.workers,
		"master":   func() []int { return masters(k.b) },
	}[role]()
	if len(pids) == 0 {
		return false
	}
	pid := pids[k.rand.IntN(len(pids))]
	switch role {
	case "instance":
		k.killInstance(pid)
		return true
	case "worker":
		return mastertest.KillHolding(pid, k.note)
	default:
		return unix.Kill(pid, unix.SIGKILL) == nil
	}
}
