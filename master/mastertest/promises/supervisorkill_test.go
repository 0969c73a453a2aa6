package promises_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestSupervisorKilled is P6 for the process that was started: everything else stops by itself, gracefully, whatever it
// is doing, and nothing is left.
func TestSupervisorKilled(t *testing.T) {
	type scene struct {
		name string
		kill func(t *testing.T, b *mastertest.Baton, steps *mastertest.Failpoints)
	}
	both := func(t *testing.T, b *mastertest.Baton, pids ...int) {
		t.Helper()
		signal(t, b.PID(), unix.SIGSTOP) // so that it sees nothing of the other's end
		for _, pid := range append(pids, b.PID()) {
			b.Kill(pid)
		}
	}
	reload := func(t *testing.T, b *mastertest.Baton) {
		t.Helper()
		b.Reload()
		b.AwaitStatus("a generation that drains", func(st mastertest.Status) bool {
			return st.State == "serving" && len(st.PIDs("draining")) > 0
		})
	}
	scenes := []scene{
		{"at rest", func(_ *testing.T, b *mastertest.Baton, _ *mastertest.Failpoints) { b.Kill(b.PID()) }},
		{"stopped first", func(t *testing.T, b *mastertest.Baton, _ *mastertest.Failpoints) { both(t, b) }},
		{
			"with the master",
			func(t *testing.T, b *mastertest.Baton, _ *mastertest.Failpoints) { both(t, b, b.Status().MasterPID) },
		},
		{"while a generation drains", func(t *testing.T, b *mastertest.Baton, _ *mastertest.Failpoints) {
			reload(t, b)
			b.Kill(b.PID())
		}},
		{
			"while a generation drains, with the master",
			func(t *testing.T, b *mastertest.Baton, _ *mastertest.Failpoints) {
				reload(t, b)
				both(t, b, b.Status().MasterPID)
			},
		},
		{"with a master that was restarted", func(t *testing.T, b *mastertest.Baton, _ *mastertest.Failpoints) {
			old := b.Status().MasterPID
			b.Kill(old)
			b.AwaitStatus("another master", func(st mastertest.Status) bool { return st.MasterPID != old })
			b.Kill(b.PID())
		}},
		{"while there is no master", func(t *testing.T, b *mastertest.Baton, steps *mastertest.Failpoints) {
			await := steps.HoldAt("welcomed")
			b.Kill(b.Status().MasterPID)
			held := await()
			b.Kill(b.PID())
			held.Release()
		}},
	}
	for _, step := range slices.Concat(mastertest.FailpointsBeforeCommit(), mastertest.FailpointsAfterCommit()) {
		scenes = append(scenes, scene{
			"in a reload, " + step,
			func(_ *testing.T, b *mastertest.Baton, steps *mastertest.Failpoints) {
				await := steps.HoldAt(step)
				b.Signal(unix.SIGHUP)
				held := await()
				b.Kill(b.PID())
				held.Release()
			},
		})
	}
	for _, step := range []string{"spawned", "ready", "committed", "granted"} {
		scenes = append(scenes, scene{
			"in a reload, with both masters, " + step,
			func(t *testing.T, b *mastertest.Baton, steps *mastertest.Failpoints) {
				await := steps.HoldAt(step)
				b.Signal(unix.SIGHUP)
				held := await()
				b.Kill(held.PID)
				both(t, b, masters(b)...)
			},
		})
	}
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t).with(`stop_timeout = "3s"`, `drain_timeout = "60s"`, `pid_file = "baton.pid"`)
			s.listen = append(s.listen, "unix:web.sock")
			b, steps := withFailpoints(t, s)
			answers := askSlowly(t, b, s.listen[0], "/slow1", 2)
			sc.kill(t, b, steps)
			if code := b.Wait(); code != 128+int(unix.SIGKILL) {
				t.Errorf("the supervisor's exit code is %d", code)
			}
			b.WantGone()
			for range 2 {
				if err := <-answers; err != nil {
					t.Errorf("a request in progress: %v", err)
				}
			}
			for _, name := range []string{"web.sock", "baton.pid"} {
				if mastertest.Exists(b.Path(name)) {
					t.Errorf("left behind: %s", name)
				}
			}
		})
	}
}

// TestSupervisorKilledCutsInTime: what lasts longer than stop_timeout is cut then, also by workers whom nobody tells.
func TestSupervisorKilledCutsInTime(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprintf("master killed %v", alone), func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t).with(`stop_timeout = "1s"`)
			b := start(t, s)
			answers := askSlowly(t, b, s.listen[0], "/slow6", 1)
			b.Reload()
			st := b.AwaitStatus("a generation that drains",
				func(st mastertest.Status) bool { return len(st.PIDs("draining")) > 0 })
			signal(t, b.PID(), unix.SIGSTOP)
			if alone {
				b.Kill(st.MasterPID)
			}
			b.Kill(b.PID())
			b.Wait()
			b.WantGone()
			if err := <-answers; err == nil {
				t.Error("a request that lasts longer than the stop was answered")
			}
		})
	}
}

// TestTwoStarters: of two that start at once on one control socket one wins, also when a killed one has left its socket
// there, and the other is told who has won.
func TestTwoStarters(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	const script = `while [ ! -e done ]; do "$BATON" "$@" & "$BATON" "$@" & wait; echo "round over"; done`
	b := mastertest.Start(t, mastertest.Options{Config: s.String(), Shell: script})
	log, last := 0, 0
	for i := range 10 * *repeat {
		st := b.AwaitStatus("the winner of the next round",
			func(st mastertest.Status) bool { return st.SupervisorPID != last && st.Settled() })
		last = st.SupervisorPID
		b.AwaitLog("who runs", log, func(text string) bool {
			return strings.Contains(text, fmt.Sprintf("baton is running already, supervisor PID %d", st.SupervisorPID))
		})
		if now := b.Status(); now.SupervisorPID != st.SupervisorPID || now.MasterPID != st.MasterPID || !now.Settled() {
			t.Fatalf("round %d: %+v was taken over by %+v", i, st, now)
		}
		if _, err := b.Whoami(s.listen[0]); err != nil {
			t.Fatal(err)
		}
		if i == 10**repeat-1 {
			break
		}
		log = len(b.Log())
		b.KillAll(st)
	}
	b.WriteFile("done", "")
	b.Signal(unix.SIGTERM)
	if code := b.Wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
