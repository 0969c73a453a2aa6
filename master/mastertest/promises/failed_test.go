package promises_test

import (
	"net"
	"os"
	"reflect"
	"strings"
	"testing"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// crashing is an init function that makes workers crash before they are ready: all of them, or all but the first.
const crashing = `package main

import (
	"os"
	"path/filepath"
	"time"

	"baton/worker"
)

func init() {
	dir := os.Getenv("BATON_TEST_CRASH")
	if !worker.Spawned() || dir == "" {
		return
	}
	if os.Remove(filepath.Join(dir, "one-may-live")) == nil { // only one can
		return
	}
	if _, err := os.Stat(filepath.Join(dir, "late")); err == nil {
		time.Sleep(300 * time.Millisecond) // the other one is ready
	}
	os.Exit(3)
}
`

// TestFailedReloadChangesNothing is P2.
func TestFailedReloadChangesNothing(t *testing.T) {
	t.Parallel()
	exclusive(t)
	good := mastertest.Build(t, mastertest.BuildOptions{})
	crash := mastertest.Build(t, mastertest.BuildOptions{Add: map[string]string{"zz_crash.go": crashing}})
	crashDir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	s := unwatchedSite(t).with(`ready_timeout = "2s"`)
	b := mastertest.Start(t, mastertest.Options{Config: s.String(), Env: []string{"BATON_TEST_CRASH=" + crashDir}})
	b.Reload() // the first successor leaves traces that later ones do not
	before := takeSnapshot(t, b)
	clients := putLoad(t, s.listen[0], defaultLoad())

	config := func(text string) func() { return func() { b.WriteConfig(text) } }
	binary := func(text string) func() { return func() { b.ReplaceBinaryBy([]byte(text)) } }
	for _, tc := range []struct {
		name  string
		spoil func()
		want  string // in the reason
	}{
		{"unknown key", config("colour = 1\n" + s.String()), "colour"},
		{"wrong type", config(strings.Replace(s.String(), "workers = 2", "workers = []", 1)), "workers"},
		{"empty file", config(""), "empty"},
		{"half a file", config(s.String()[:len(s.String())/2] + "[["), "site.toml"},
		{"no file", func() { os.Remove(b.Path("site.toml")) }, "site.toml"},
		{"missing directory", config(s.String() + "[[route]]\npath = \"/x\"\nstatic = \"nowhere\"\n"), "nowhere"},
		{
			"port taken", config(s.String() + "[[listen]]\naddress = \"" + taken.Addr().String() + "\"\n"),
			taken.Addr().String(),
		},
		{"binary exits at once", binary("#!/bin/sh\nexit 3\n"), ""},
		{"binary hangs", binary("#!/bin/sh\nexec sleep 1000\n"), ""},
		{"binary is a text", binary("hello\n"), "exec format"},
		{"binary is gone", func() { os.Remove(b.Path("baton")) }, "no such file"},
		{"worker crashes", func() { b.ReplaceBinary(crash) }, "worker"},
		{"one worker of two crashes", func() {
			b.ReplaceBinary(crash)
			for _, name := range []string{"one-may-live", "late"} {
				if err := os.WriteFile(crashDir+"/"+name, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, "worker"},
	} {
		ok := t.Run(tc.name, func(t *testing.T) {
			log := len(b.Log())
			tc.spoil()
			r := b.CLI("reload")
			b.WriteConfig(s.String())
			b.ReplaceBinary(good)
			if r.Code != 1 {
				t.Errorf("baton reload: exit code %d, want 1: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			st := b.Status()
			reason := st.LastReload.Error
			if st.LastReload.OK || reason == "" || !strings.Contains(reason, tc.want) {
				t.Errorf("status: %+v, want a reason with %q", st.LastReload, tc.want)
			}
			// What a person reads may be set in other lines.
			first, _, _ := strings.Cut(strings.TrimSpace(reason), "\n")
			if !strings.Contains(r.Stderr, first) {
				t.Errorf("baton reload says %q, status %q", r.Stderr, reason)
			}
			if !strings.Contains(b.Log()[log:], "level=ERROR") && !strings.Contains(b.Log()[log:], "level=WARN") {
				t.Errorf("the log is silent: %q", b.Log()[log:])
			}
			wantSame(t, before, b)
			t.Logf("%s", strings.TrimSpace(r.Stderr))
		})
		if !ok {
			break
		}
	}
	b.Reload()
	if st := b.Status(); st.Generation != before.generation+1 {
		t.Errorf("generation %d after the failures and one success, want %d", st.Generation, before.generation+1)
	}
	wantNoLoss(t, clients)
}

// wantSame fails the test if anything is not as it was.
func wantSame(tb testing.TB, before snapshot, b *mastertest.Baton) {
	tb.Helper()
	var after snapshot
	mastertest.Await(tb, func() string {
		return "everything to be as before\n  then " + before.String() + "\n  now  " + after.String()
	}, func() bool {
		after = takeSnapshot(tb, b)
		return reflect.DeepEqual(before, after)
	})
}

// TestSuccessorKilled: before COMMIT nothing has happened, after it the reload is done, whoever dies.
func TestSuccessorKilled(t *testing.T) {
	t.Parallel()
	exclusive(t)
	steps := mastertest.NewFailpoints(t)
	s := unwatchedSite(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Env: []string{steps.Env()},
		Binary: mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
	})
	b.Reload()
	before := takeSnapshot(t, b)
	clients := putLoad(t, s.listen[0], load.Mix(4, 8, 8))
	for _, step := range mastertest.FailpointsBeforeCommit() {
		t.Run(step, func(t *testing.T) {
			steps.KillAt(step)
			if r := b.CLI("reload"); r.Code != 1 || r.Stderr == "" {
				t.Errorf("baton reload: exit code %d, want 1: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			steps.AwaitKilled(step)
			wantSame(t, before, b)
		})
	}
	for i, step := range mastertest.FailpointsAfterCommit() {
		t.Run(step, func(t *testing.T) {
			steps.KillAt(step)
			if r := b.CLI("reload"); r.Code != 0 {
				t.Errorf("baton reload: exit code %d, want 0: %s%s", r.Code, r.Stdout, r.Stderr)
			}
			steps.AwaitKilled(step)
			if st := b.AwaitSettled(); st.Generation != before.generation+1+i || !st.LastReload.OK {
				t.Errorf("generation %d, want %d; %+v", st.Generation, before.generation+1+i, st.LastReload)
			}
		})
	}
	b.Reload()
	wantNoLoss(t, clients)
}
