package promises_test

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/master/mastertest/load"
)

// follows waits until the keeper is of this version.
func follows(b *mastertest.Baton, version string) mastertest.Status {
	return b.AwaitStatus("a keeper of version "+version, func(st mastertest.Status) bool {
		return st.KeeperVersion == version && st.Settled()
	})
}

// wantExe fails the test unless the process executes the file that is installed.
func wantExe(tb testing.TB, b *mastertest.Baton, pid int) {
	tb.Helper()
	installed, err1 := os.Stat(b.Path("baton"))
	executed, err2 := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err1 != nil || err2 != nil || !os.SameFile(installed, executed) {
		tb.Errorf("the keeper does not execute the new file: %v, %v", err1, err2)
	}
}

// wantObeyed fails the test unless the keeper still does what signals and commands ask for.
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
	if now := b.AwaitSettled(); now.Generation != st.Generation+3 || now.KeeperPID != st.KeeperPID {
		tb.Errorf("generation %d of keeper %d, want %d of %d", now.Generation, now.KeeperPID, st.Generation+3, st.KeeperPID)
	}
}

// TestKeeperFollows: some time after an upgrade no old code is left, under the same PID, and no request has noticed.
func TestKeeperFollows(t *testing.T) {
	t.Parallel()
	heavy(t)
	s := quiet(t)
	b := start(t, s)
	b.Reload()
	pid := b.PID()
	look(t, b)
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
	if err != nil || p.Comm != "baton keeper" || mastertest.CommandLine(pid) != b.Path("baton")+" keeper run --config site.toml" {
		t.Errorf("%+v, %v, %q", p, err, mastertest.CommandLine(pid))
	}
	b.Stop()
}

// TestKeeperFollowsLeaksNothing: ten follows leave no descriptor and no process behind.
func TestKeeperFollowsLeaksNothing(t *testing.T) {
	t.Parallel()
	b := start(t, quiet(t))
	version := b.Upgrade(0)
	b.Reload()
	follows(b, version)
	before := look(t, b)
	for i := range 10 {
		version := b.Upgrade(1 + i%2)
		b.Reload()
		follows(b, version)
	}
	after := look(t, b)
	if !maps.Equal(before.keeperFDs, after.keeperFDs) || len(before.tree) != len(after.tree) {
		t.Errorf("then %s\nnow %s", before, after)
	}
	for _, pid := range after.tree[1:] {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || strings.Contains(string(env), "BATON_FOLLOW") {
			t.Errorf("the environment of %d: %q, %v", pid, env, err)
		}
	}
	b.Stop()
}
