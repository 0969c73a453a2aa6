package promises_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/master/internal/supervisor"
	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestWorkerKilled is P6 for workers: under load, one is killed at a random moment, again and again. It is replaced in
// its slot, the others are the same processes as before, and no request fails but those of connections that the killed
// one held, which are counted apart. What waits in a queue is served: also that of a slot of its own, with reuse_port.
func TestWorkerKilled(t *testing.T) {
	t.Parallel()
	for name, socket := range map[string]string{"one queue": "", "a queue for each slot": "reuse_port = true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exclusive(t)
			s := unwatchedSite(t)
			s.workers, s.socket = 5, socket
			// Without the race detector, which would make every start a long one.
			k := newKiller(t, mastertest.Start(t, mastertest.Options{
				Config: s.String(),
				Binary: mastertest.Build(t, mastertest.BuildOptions{NoRace: true}),
			}))
			clients, err := load.ParseClasses("new=4,reader=6,writer=6,idle=4,silent=2,pipelined=1,dribble=1," +
				"continue=1,upload=1,download=1")
			if err != nil {
				t.Fatal(err)
			}
			r := load.Start(t.Context(), load.Config{
				Target: s.listen[0], Classes: clients, Seed: k.seed,
				Excuse: k.excuse,
			})
			mastertest.Await(t, mastertest.Text("the first answers"), func() bool { return r.Answers() > 200 })
			for range 2 { // in each generation every slot twice: a third crash would be a reason to wait longer
				slots := append(k.rand.Perm(s.workers), k.rand.Perm(s.workers)...)
				for _, slot := range slots {
					sleep(time.Duration(k.rand.IntN(60)) * time.Millisecond)
					k.kill(slot)
				}
				k.b.Reload()
			}
			report := wantNoLoss(t, r)
			k.wantAll(20, report)
		})
	}
}

// killer kills workers, and knows which connections died with them.
type killer struct {
	tb   testing.TB
	b    *mastertest.Baton
	seed uint64
	rand *rand.Rand

	mu    sync.Mutex
	held  map[mastertest.Ends]bool // connections that a killed worker held, until they are excused
	kills int
}

// killSeed makes the moments and the slots the same again: BATON_TEST_SEED=….
func killSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("BATON_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Logf("BATON_TEST_SEED=%d", seed)
	return seed
}

func newKiller(tb testing.TB, b *mastertest.Baton) *killer {
	tb.Helper()
	seed := killSeed(tb)
	return &killer{tb: tb, b: b, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), held: map[mastertest.Ends]bool{}}
}

// excuse is for a connection that died with a worker: one failure, and no other.
func (k *killer) excuse(f load.Failure) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	ends := mastertest.Ends{Client: f.Local, Server: f.Remote}
	if !k.held[ends] {
		return ""
	}
	delete(k.held, ends)
	return fmt.Sprintf("held by a killed worker (%s)", f.Kind)
}

// kill kills the worker in a slot, and waits until there is another one.
func (k *killer) kill(slot int) {
	k.tb.Helper()
	before := k.b.AwaitSettled()
	victim := inSlot(before, slot)
	patience := time.Duration(k.rand.IntN(15)) * time.Millisecond
	killed := mastertest.KillHolding(victim, func(served map[mastertest.Ends]bool) {
		k.note(served)
		sleep(patience) // what comes meanwhile is in a queue
	})
	if !killed {
		k.tb.Fatalf("worker %d was not there to be killed", victim)
	}
	after := k.b.AwaitStatus(fmt.Sprintf("another worker in slot %d", slot), func(st mastertest.Status) bool {
		return st.Settled() && st.Crashes == before.Crashes+1
	})
	for _, w := range before.Workers {
		if now := inSlot(after, w.Slot); (now == w.PID) != (w.Slot != slot) {
			k.tb.Errorf("killed %d in slot %d: slot %d had process %d, and has %d", victim, slot, w.Slot, w.PID, now)
		}
	}
	k.kills++
}

// inSlot is the worker in a slot of a baton at rest.
func inSlot(st mastertest.Status, slot int) int {
	for _, w := range st.Workers {
		if w.Slot == slot && w.Generation == st.Generation {
			return w.PID
		}
	}
	return 0
}

// wantAll fails the test unless n workers were killed, and somebody has felt it.
func (k *killer) wantAll(n int, report *load.Report) {
	k.tb.Helper()
	st := k.b.AwaitSettled()
	if k.kills != n || st.Crashes != int64(n) {
		k.tb.Errorf("%d workers were killed, status says %d, want %d", k.kills, st.Crashes, n)
	}
	if len(st.Warnings)+len(st.Crashing) != 0 {
		k.tb.Errorf("in the end: %+v", st)
	}
	var excused int64
	for _, count := range report.Total.Excused {
		excused += count
	}
	if excused == 0 {
		k.tb.Error("no client has noticed that its worker was killed; were there any?")
	}
	k.tb.Logf("\n%s", report)
}

// TestWorkerKilledInReload: a worker that is killed while a successor starts is replaced by one like it: with the
// arguments that were typed, and without a mark of the reload.
func TestWorkerKilledInReload(t *testing.T) {
	t.Parallel()
	steps := mastertest.NewFailpoints(t)
	s := unwatchedSite(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Env: []string{steps.Env()},
		Binary: mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
	})
	before := b.AwaitSettled()
	victim := inSlot(before, 1)
	line := mastertest.CommandLine(victim)
	await := steps.HoldAt("bound")
	reload := b.StartCLI("reload")
	held := await()
	b.Kill(victim)
	st := b.AwaitStatus("another worker in slot 1", func(st mastertest.Status) bool {
		return st.Crashes == 1 && len(st.PIDs("serving")) == 2
	})
	pid := inSlot(st, 1)
	if got := mastertest.CommandLine(pid); pid == victim || got != line ||
		!strings.HasSuffix(line, " run --config site.toml") {
		t.Errorf("process %d is %q, want %q", pid, got, line)
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil || strings.Contains(string(env), supervisor.AttemptEnv+"=") {
		t.Errorf("the worker belongs to a reload that has nothing to do with it: %q, %v", env, err)
	}
	if inSlot(st, 0) != inSlot(before, 0) || st.Generation != 1 {
		t.Errorf("before %+v\nafter %+v", before, st)
	}
	held.Release()
	if r := reload(); r.Code != 0 {
		t.Errorf("baton reload: exit code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if st := b.AwaitSettled(); st.Generation != 2 || st.Crashes != 1 {
		t.Errorf("%+v", st)
	}
}

// TestWorkerKilledWhileConnectionsMove: workers of both generations are killed at random moments of reloads, with the
// same outcome: only what the killed one held is lost. What was on its way to it, or from it, is served by others.
func TestWorkerKilledWhileConnectionsMove(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	k := newKiller(t, mastertest.Start(t,
		mastertest.Options{Config: s.String(), Binary: mastertest.Build(t, mastertest.BuildOptions{NoRace: true})}))
	clients, err := load.ParseClasses("new=2,reader=4,writer=4,idle=200,silent=10")
	if err != nil {
		t.Fatal(err)
	}
	r := load.Start(t.Context(), load.Config{Target: s.listen[0], Classes: clients, Seed: k.seed, Excuse: k.excuse})
	mastertest.Await(t, mastertest.Text("the first answers"), func() bool { return r.Answers() > 400 })
	reloads, failed := 0, 0
	for ; k.kills < 20 && reloads < 200 && !t.Failed(); reloads++ {
		k.b.AwaitSettled()
		reload := k.b.StartCLI("reload")
		sleep(time.Duration(k.rand.IntN(60)) * time.Millisecond)
		if workers := k.workers(); len(workers) > 0 &&
			mastertest.KillHolding(workers[k.rand.IntN(len(workers))], k.note) {
			k.kills++
		}
		if reload().Code != 0 {
			failed++ // it was a worker that was not ready yet
		}
	}
	if k.kills < 20 {
		t.Errorf("in %d reloads %d workers were killed", reloads, k.kills)
	}
	t.Logf("%d workers killed in %d reloads, of which %d failed for it", k.kills, reloads, failed)
	report := wantNoLoss(t, r)
	k.b.AwaitSettled()
	t.Logf("\n%s", report)
}

// workers are all that there are, of the successor as well. While it looks they come and go; it may find none.
func (k *killer) workers() []int {
	var pids []int
	for _, p := range k.b.Tree() {
		if strings.HasPrefix(p.Comm, "baton worker") {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

func (k *killer) note(served map[mastertest.Ends]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for ends := range served {
		k.held[ends] = true
	}
}
