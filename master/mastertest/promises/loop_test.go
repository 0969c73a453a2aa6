package promises_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// fickle is an init function that notes every start of a worker, and makes it crash if it is told to: at once, or as
// soon as there is a file that says so. It may also hang.
const fickle = `package main

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"baton/worker"
)

func init() {
	dir := os.Getenv("BATON_TEST_FICKLE")
	if !worker.Spawned() || dir == "" {
		return
	}
	line, _ := os.ReadFile("/proc/self/cmdline")
	slot := strings.Split(string(line), "\x00")[1] // "worker 1"; in os.Args it is no more
	if f, err := os.OpenFile(filepath.Join(dir, "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		f.WriteString(slot + "\n")
		f.Close()
	}
	switch how, _ := os.ReadFile(filepath.Join(dir, slot)); string(how) {
	case "at once":
		os.Exit(3)
	case "hang":
		time.Sleep(time.Hour)
	case "later":
		go func() {
			for {
				if _, err := os.Stat(filepath.Join(dir, "now")); err == nil {
					os.Exit(4)
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}
}
`

// fickleDir is where the workers of a fickle binary are told what to do.
type fickleDir struct {
	tb  testing.TB
	dir string
}

func startFickle(tb testing.TB, s site) (*mastertest.Baton, fickleDir) {
	tb.Helper()
	f := fickleDir{tb, tb.TempDir()}
	return mastertest.Start(tb, mastertest.Options{
		Config: s.String(), Env: []string{"BATON_TEST_FICKLE=" + f.dir},
		Binary: mastertest.Build(tb, mastertest.BuildOptions{
			NoRace: true,
			Add:    map[string]string{"zz_fickle.go": fickle},
		}),
	}), f
}

// tell says how the workers of a slot are to behave: crash "at once" or "later", "hang", or "" for well.
func (f fickleDir) tell(slot int, how string) {
	f.tb.Helper()
	f.write(fmt.Sprintf("worker %d", slot), how)
}

// now makes those crash that were to do so later.
func (f fickleDir) now() {
	f.tb.Helper()
	f.write("now", "")
}

func (f fickleDir) write(name, text string) {
	f.tb.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		f.tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.tb.Fatal(err)
	}
}

// starts is how many workers have been started.
func (f fickleDir) starts() int {
	text, _ := os.ReadFile(filepath.Join(f.dir, "starts"))
	return strings.Count(string(text), "\n")
}

// TestCrashLoop: a slot whose workers crash at once is tried again less and less often, status is loud about it, the
// other slots serve on, and what is in the slot's own queue as well; and when its workers live again, nothing is left
// of it.
func TestCrashLoop(t *testing.T) {
	t.Parallel()
	for name, socket := range map[string]string{"one queue": "", "a queue for each slot": "reuse_port = true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			s.workers, s.socket = 3, socket
			b, workers := startFickle(t, s)
			before := b.AwaitSettled()
			fds := openFiles(t, before.Workers[0].PID)
			begun, started := time.Now(), workers.starts()
			workers.tell(1, "at once")
			b.Kill(inSlot(before, 1))
			r := load.Start(t.Context(), load.Config{
				Target: s.listen[0], Classes: load.Mix(2, 2, 2),
				MinPause: 5 * time.Millisecond, MaxPause: 20 * time.Millisecond,
			})
			st := b.AwaitStatus("five crashes", func(st mastertest.Status) bool {
				return st.Crashes >= 5 && len(st.Crashing) == 1 && st.Crashing[0].Empty
			})
			c := st.Crashing[0]
			if c.Slot != 1 || !c.Looping || c.Crashes < 5 || c.NextStart <= 0 || c.Last != "exit status 3" ||
				len(st.Workers) != 2 {
				t.Errorf("%+v", st)
			}
			wantWarning(t, st, "slot 1 crashes again and again: ", "last: exit status 3; next start in ")
			var text string
			mastertest.Await(t, func() string { return "words of baton status for people; the last:\n" + text },
				func() bool {
					text = b.CLI("status").Stdout
					return strings.Contains(text, "starts in ") &&
						strings.Contains(text, "slot 1 crashes again and again")
				})
			b.AwaitLog("the crash loop", 0,
				func(text string) bool { return strings.Contains(text, `msg="a slot crashes again and again"`) })
			report := wantNoLoss(t, r)
			t.Logf("\n%s", report)

			// The n-th start in a row comes no sooner than 0.1 s · (2^(n-2) - 1) after the first.
			took, count := time.Since(begun), workers.starts()-started
			if most := int(math.Log2(took.Seconds()*10*1.1+1)) + 3; count > most || count < 4 {
				t.Errorf("%d starts in %v, want 4 to %d", count, took, most)
			}
			workers.tell(1, "")
			after := b.AwaitStatus("the end of the trouble", func(st mastertest.Status) bool {
				return st.Settled() && len(st.Crashing) == 0 && len(st.Warnings) == 0
			})
			for _, slot := range []int{0, 2} {
				if inSlot(after, slot) != inSlot(before, slot) {
					t.Errorf("slot %d had process %d, and has %d", slot, inSlot(before, slot), inSlot(after, slot))
				}
			}
			b.AwaitLog("the end of it", 0, func(text string) bool {
				return strings.Contains(text, `msg="a slot that had crashed again and again serves"`)
			})
			if now := openFiles(t, before.Workers[0].PID); now > fds+2 {
				t.Errorf("another slot's worker had %d open files, and has %d after %d crashes", fds, now,
					after.Crashes)
			}
		})
	}
}

// TestReplacementCoversEmptySlot: with a queue for each slot, a slot in which nobody serves after a crash is served by
// the others, also when none of those is left that were there when its worker crashed.
func TestReplacementCoversEmptySlot(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(`ready_timeout = "1h"`)
	s.socket = "reuse_port = true"
	b, workers := startFickle(t, s)
	before := b.AwaitSettled()
	workers.tell(1, "hang")
	b.Kill(inSlot(before, 1))
	hanging := b.AwaitStatus("a worker in slot 1 that does not get ready",
		func(st mastertest.Status) bool { return len(st.PIDs("starting")) == 1 })
	b.Kill(inSlot(before, 0))
	b.AwaitStatus("another worker in slot 0", func(st mastertest.Status) bool {
		return inSlot(st, 0) != inSlot(before, 0) && len(st.PIDs("serving")) == 1
	})
	for i, c := range connect(t, s.listen[0], 40) { // to both queues
		ask(t, c)
		if err := answered(c); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		c.Close()
	}
	workers.tell(1, "")
	b.Kill(inSlot(hanging, 1))
	b.AwaitSettled()
}

// TestManySlotsCrash: a crash loop of all slots together is bounded as well, and no longer a line for each in status.
func TestManySlotsCrash(t *testing.T) {
	t.Parallel()
	const slots = 12
	s := unwatchedSite(t)
	s.workers = slots
	b, workers := startFickle(t, s)
	before := b.AwaitSettled()
	begun, started := time.Now(), workers.starts()
	for slot := range slots {
		workers.tell(slot, "at once")
	}
	for _, pid := range before.PIDs("serving") {
		b.Kill(pid)
	}
	st := b.AwaitStatus("a crash loop in all slots", func(st mastertest.Status) bool {
		return len(st.Crashing) == slots && len(st.Warnings) > 0 &&
			strings.HasPrefix(st.Warnings[len(st.Warnings)-1], "and 8 more slots")
	})
	for _, c := range st.Crashing {
		if !c.Looping || c.Crashes < 3 {
			t.Errorf("%+v", c)
		}
	}
	// One start of each slot at once, then one every 0.1 s.
	took, count := time.Since(begun), workers.starts()-started
	if most := slots + 2 + int(took/(100*time.Millisecond)); count > most || count < 2*slots {
		t.Errorf("%d starts in %v, want %d to %d", count, took, 2*slots, most)
	}
	for slot := range slots {
		workers.tell(slot, "")
	}
	b.AwaitStatus("the end of the trouble",
		func(st mastertest.Status) bool { return st.Settled() && len(st.Warnings) == 0 })
	if _, err := b.Whoami(s.listen[0]); err != nil {
		t.Error(err)
	}
}

// TestNewGenerationCrashes: a reload has succeeded, and then its workers begin to crash, while the old generation
// drains. Status and log say so in words of their own, until the next reload.
func TestNewGenerationCrashes(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b, workers := startFickle(t, s)
	request := hold(t, s.listen[0])
	for slot := range 2 {
		workers.tell(slot, "later")
	}
	b.Reload()
	workers.now()
	const loud = "THE NEW GENERATION CRASHES"
	isLoud := func(st mastertest.Status) bool {
		return len(st.Warnings) > 0 && strings.HasPrefix(st.Warnings[0], loud)
	}
	st := b.AwaitStatus("a loud warning", isLoud)
	wantWarning(t, st, loud+": generation 2 took over ", "while generation 1 still drains")
	if len(st.PIDs("draining")) == 0 || st.LastReload.Error != "" {
		t.Errorf("%+v", st)
	}
	b.AwaitLog("the same", 0, func(text string) bool { return strings.Contains(text, `msg="`+loud+`"`) })
	b.WriteConfig("colour = 1\n")
	if r := b.CLI("reload"); r.Code != 1 {
		t.Errorf("a broken config: exit code %d", r.Code)
	}
	if st := b.Status(); !isLoud(st) {
		t.Errorf("after a reload that has failed: %q", st.Warnings)
	}
	for slot := range 2 {
		workers.tell(slot, "")
	}
	b.WriteConfig(s.String())
	b.Reload()
	if st := b.Status(); len(st.Warnings)+len(st.Crashing) != 0 {
		t.Errorf("after the next reload: %q, %+v", st.Warnings, st.Crashing)
	}
	request.wantFinished()
	if st := b.AwaitSettled(); st.Generation != 3 || st.CutRequests != 0 {
		t.Errorf("%+v", st)
	}
}

// wantWarning looks for a warning with these parts.
func wantWarning(tb testing.TB, st mastertest.Status, parts ...string) {
	tb.Helper()
	for _, w := range st.Warnings {
		found := 0
		for _, p := range parts {
			if strings.Contains(w, p) {
				found++
			}
		}
		if found == len(parts) {
			return
		}
	}
	tb.Errorf("warnings %q, want one with %q", st.Warnings, parts)
}

func openFiles(tb testing.TB, pid int) int {
	tb.Helper()
	n := 0
	for _, count := range restingFDs(tb, pid) {
		n += count
	}
	return n
}
