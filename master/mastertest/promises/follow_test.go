package promises_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// follows waits until the supervisor is of this version.
func follows(b *mastertest.Baton, version string) mastertest.Status {
	return b.AwaitStatus("a supervisor of version "+version, func(st mastertest.Status) bool {
		return st.Supervisor == version && st.Settled()
	})
}

// wantExe fails the test unless the process executes the file that is installed.
func wantExe(tb testing.TB, b *mastertest.Baton, pid int) {
	tb.Helper()
	installed, err1 := os.Stat(b.Path("baton"))
	executed, err2 := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err1 != nil || err2 != nil || !os.SameFile(installed, executed) {
		tb.Errorf("the supervisor does not execute the new file: %v, %v", err1, err2)
	}
}

// wantObeyed fails the test unless the supervisor still does what signals and commands ask for.
func wantObeyed(tb testing.TB, b *mastertest.Baton) {
	tb.Helper()
	st := b.AwaitSettled()
	b.Signal(unix.SIGTTIN)
	b.AwaitStatus("one worker more", func(now mastertest.Status) bool {
		return now.WorkersWanted == st.WorkersWanted+1 && now.Settled()
	})
	b.Signal(unix.SIGTTOU)
	b.AwaitStatus("one worker less", func(now mastertest.Status) bool {
		return now.WorkersWanted == st.WorkersWanted && now.Settled()
	})
	for i, sig := range []unix.Signal{unix.SIGHUP, unix.SIGUSR2} {
		b.Signal(sig)
		b.AwaitGeneration(st.Generation + 1 + i)
	}
	b.Reload("--wait")
	if now := b.AwaitSettled(); now.Generation != st.Generation+3 || now.SupervisorPID != st.SupervisorPID {
		tb.Errorf("generation %d of supervisor %d, want %d of %d", now.Generation, now.SupervisorPID, st.Generation+3,
			st.SupervisorPID)
	}
}

// TestSupervisorFollows: some time after an upgrade no old code is left, under the same PID, and no request has
// noticed.
func TestSupervisorFollows(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b := start(t, s)
	pid := b.PID()
	b.Upgrade(9) // now, so that nothing is built while the clients wait
	clients := putLoad(t, s.listen[0], load.Mix(2, 6, 6))
	for i := range 3 {
		version := b.Upgrade(i)
		b.Reload()
		follows(b, version)
		wantExe(t, b, pid)
	}
	wantObeyed(t, b)
	wantNoLoss(t, clients)
	p, err := mastertest.ReadProc(pid)
	if err != nil || p.Comm != mastertest.SupervisorComm ||
		mastertest.CommandLine(pid) != b.Path("baton")+" supervisor run --config site.toml" {
		t.Errorf("%+v, %v, %q", p, err, mastertest.CommandLine(pid))
	}
	b.Stop()
}

// TestSupervisorFollowsLeaksNothing: ten follows leave no descriptor and no process behind.
func TestSupervisorFollowsLeaksNothing(t *testing.T) {
	t.Parallel()
	b := start(t, unwatchedSite(t))
	version := b.Upgrade(0)
	b.Reload("--wait")
	follows(b, version)
	before := takeSnapshot(t, b)
	for i := range 10 {
		version := b.Upgrade(1 + i%2)
		b.Reload("--wait")
		follows(b, version)
	}
	after := takeSnapshot(t, b)
	if !maps.Equal(before.supervisorFDs, after.supervisorFDs) || len(before.tree) != len(after.tree) {
		t.Errorf("then %s\nnow %s", before, after)
	}
	for _, pid := range after.tree { // in the order of the PIDs, which start again at the largest
		if pid == b.PID() {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || strings.Contains(string(env), "BATON_REEXEC") {
			t.Errorf("the environment of %d: %q, %v", pid, env, err)
		}
	}
	b.Stop()
}

// followSteps is a baton at rest whose supervisor is about to follow, and comes to the step.
func followSteps(t *testing.T, s site, step string) (b *mastertest.Baton, await func() *mastertest.Held) {
	t.Helper()
	steps := mastertest.NewFailpoints(t)
	b = mastertest.Start(t, mastertest.Options{
		Config: s.String(), Env: []string{steps.Env()},
		Binary: mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
	})
	b.PID()
	await = steps.HoldAt(step)
	b.Reinstall()
	b.Reload("--wait")
	return b, await
}

func awaitFollowed(b *mastertest.Baton) mastertest.Status {
	return b.AwaitStatus("the supervisor to follow",
		func(st mastertest.Status) bool { return st.Reexecuted() && st.Settled() })
}

// TestFollowingHoldsSignals: what comes while the supervisor executes the new binary is obeyed after it.
func TestFollowingHoldsSignals(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b, await := followSteps(t, s, "reexecuting")
	supervisor := await()
	if supervisor.PID != b.PID() {
		t.Errorf("%d is held, the supervisor is %d", supervisor.PID, b.PID())
	}
	s.text = "two"
	b.WriteConfig(s.String())
	for range 100 {
		b.Signal(unix.SIGHUP)
	}
	b.Signal(unix.SIGTTIN)
	b.Signal(unix.SIGUSR2)
	supervisor.Release()
	b.AwaitStatus("the third worker and the third generation", func(st mastertest.Status) bool {
		return st.WorkersWanted == 3 && st.Generation >= 3 && st.Settled() && st.Reexecuted()
	})
	wantText(t, b, s.listen[0], "two")
	if !strings.Contains(b.Log(), "by=USR2") { // its reload may have served the HUPs as well
		t.Error("not all that was held was obeyed")
	}
	wantObeyed(t, b)
	b.Stop()
}

// TestFollowingWithoutAnEdit: no HUP was lost, so none is made up.
func TestFollowingWithoutAnEdit(t *testing.T) {
	t.Parallel()
	b, await := followSteps(t, unwatchedSite(t), "reexecuted")
	await().Release()
	awaitFollowed(b)
	b.Reload("--wait")
	if st := b.AwaitSettled(); st.Generation != 3 || st.LastReload.ID != 2 {
		t.Errorf("%+v", st)
	}
	b.Stop()
}

// TestDeathsWhileFollowing: children that die before the new binary reaps, or that nobody has told it of, are replaced.
func TestDeathsWhileFollowing(t *testing.T) {
	for _, step := range []string{"reexecuting", "reexecuted"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			b, await := followSteps(t, unwatchedSite(t), step)
			before := b.AwaitSettled()
			supervisor := await()
			b.Kill(before.PIDs("serving")[0])
			b.Kill(before.MasterPID)
			supervisor.Release()
			after := awaitFollowed(b)
			if after.MasterPID == before.MasterPID || after.SupervisorPID != before.SupervisorPID ||
				after.Generation != before.Generation {
				t.Errorf("then %+v, now %+v", before, after)
			}
			mastertest.Await(t,
				func() string {
					return "nobody dead and not reaped: " +
						fmt.Sprint(mastertest.Children(b.PID()))
				}, func() bool {
					return !slices.ContainsFunc(mastertest.Children(b.PID()),
						func(p mastertest.Proc) bool { return p.State == "Z" })
				})
			wantObeyed(t, b)
			b.Stop()
		})
	}
}

// TestStopWhileFollowing: everything ends, gracefully, whenever it comes. Only between the moment at which the old
// binary lets go of the signals and the one at which the new one has them, the exit code is that of the signal.
func TestStopWhileFollowing(t *testing.T) {
	for step, code := range map[string]int{"checking": 0, "reexecuting": 128 + int(unix.SIGTERM), "reexecuted": 0} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			b, await := followSteps(t, s, step)
			held := await()
			var requests []heldRequest // the supervisor cannot say now how many there are
			for range 4 {
				requests = append(requests, hold(t, s.listen[0]))
			}
			if err := unix.Kill(b.PID(), unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			held.ReleaseOrGone()
			for _, r := range requests {
				r.wantFinished()
			}
			if got := b.WaitFor(2 * shortTimeout); got != code {
				t.Errorf("exit code %d, want %d", got, code)
			}
			b.AwaitGone()
		})
	}
}

// TestSupervisorStays: a binary whose dry run fails is not followed, is not tried again, and everything works.
func TestSupervisorStays(t *testing.T) {
	t.Parallel()
	steps := mastertest.NewFailpoints(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: unwatchedSite(t).String(), Env: []string{steps.Env()},
		Binary: mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
	})
	first := takeSnapshot(t, b)
	steps.KillAt("checking")
	b.Reinstall()
	b.Reload()
	st := b.AwaitStatus("a warning", func(st mastertest.Status) bool { return len(st.Warnings) > 0 })
	if want := "the supervisor stays at version v1: dry run: signal killed: not a word"; st.Warnings[0] != want ||
		st.Reexecuted() {
		t.Errorf("%q, want %q", st.Warnings, want)
	}
	if now := takeSnapshot(t, b); !maps.Equal(first.supervisorFDs, now.supervisorFDs) {
		t.Errorf("open files of the supervisor: %v, then %v", first.supervisorFDs, now.supervisorFDs)
	}
	wantObeyed(t, b)
	st = b.AwaitSettled()
	if n := strings.Count(b.Log(), "cannot re-execute"); n != 1 || len(st.Warnings) != 1 {
		t.Errorf("%d tries, warnings %q", n, st.Warnings)
	}
	b.Reinstall()
	b.Reload()
	b.AwaitStatus("the supervisor to follow, and no warning", func(st mastertest.Status) bool {
		return st.Reexecuted() && st.Settled() && len(st.Warnings) == 0
	})
	wantObeyed(t, b)
	b.Stop()
}

// TestHangupsWhileFollowing: the supervisor never dies of them, and what the last one asked for is in force.
func TestHangupsWhileFollowing(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s)
	for i := range 4 {
		from := len(b.Log())
		version := b.Upgrade(i)
		b.Reload("--wait")
		s.text = version
		b.WriteConfig(s.String())
		b.AwaitLog("the supervisor to follow", from,
			func(text string) bool { return strings.Contains(text, "re-executing itself") })
		for range 500 {
			b.Signal(unix.SIGHUP)
			b.Signal(unix.SIGUSR2)
		}
		wantText(t, b, s.listen[0], version)
		follows(b, version)
	}
	b.Stop()
}

// TestFollowingInTerminal: the shell that started it notices nothing, and keys reach it as before.
func TestFollowingInTerminal(t *testing.T) {
	for name, tc := range map[string]struct {
		shell string
		stop  func(t *testing.T, b *mastertest.Baton)
	}{
		"Ctrl-C": {`trap : INT; "$BATON" "$@"; echo "exit code $?"`, func(t *testing.T, b *mastertest.Baton) {
			b.Type(mastertest.CtrlC)
			wantExit(t, b, 0, shortTimeout)
			b.AwaitLog("exit code 0", 0, func(text string) bool { return strings.Contains(text, "exit code 0") })
		}},
		"wait": {`"$BATON" "$@" & wait $!; echo "exit code $?"`, func(t *testing.T, b *mastertest.Baton) {
			b.Signal(unix.SIGINT) // which was ignored when such a shell started it
			wantExit(t, b, 0, shortTimeout)
			b.AwaitLog("exit code 0", 0, func(text string) bool { return strings.Contains(text, "exit code 0") })
		}},
		"hang up": {"", func(_ *testing.T, b *mastertest.Baton) {
			b.HangUp()
			b.WaitFor(shortTimeout)
			b.AwaitGone()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := mastertest.Start(t, mastertest.Options{
				Config: unwatchedSite(t).String(), Terminal: true,
				Shell: tc.shell,
			})
			version := b.Upgrade(0)
			b.Signal(unix.SIGHUP)
			b.AwaitGeneration(2)
			follows(b, version)
			tc.stop(t, b)
		})
	}
}
