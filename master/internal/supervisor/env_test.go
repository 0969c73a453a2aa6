package supervisor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestScrub(t *testing.T) {
	t.Parallel()
	keep := []string{
		"PATH=/bin", "BATON_CONTROL=/run/x", "BATON_ROLE_X=1", "EMPTY=", "NOEQUALS", "A=LISTEN_FDS=3",
		"MY_LISTEN_PID=1",
	}
	env := slices.Clone(keep)
	for _, name := range private {
		env = append(env, name+"=1", name+"=", name)
	}
	if got := Scrub(env); !slices.Equal(got, keep) {
		t.Errorf("%q, want %q", got, keep)
	}
}

func TestMasterEnv(t *testing.T) {
	t.Parallel()
	got := masterEnv([]string{"A=1", "BATON_ROLE=worker", AttemptEnv + "=7"}, "/home/x")
	if want := []string{
		"A=1", "BATON_ROLE=master", "BATON_REGISTRATION=3", "BATON_DIR=/home/x",
	}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// tree is releases/1/prog and releases/2/prog, with current leading to the first.
func tree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, release := range []string{"1", "2"} {
		d := filepath.Join(dir, "releases", release)
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(d, "prog"), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("releases/1", filepath.Join(dir, "current")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantExecutable(t *testing.T, argv0, want string) {
	t.Helper()
	if got, err := Executable(argv0); err != nil || got != want {
		t.Errorf("%s: %q, %v, want %q", argv0, got, err, want)
	}
}

// With `current -> releases/42` the next reload is to follow the link to where it points then.
func TestExecutableKeepsLinks(t *testing.T) {
	dir := tree(t)
	current := filepath.Join(dir, "current", "prog")
	wantExecutable(t, current, current)

	t.Chdir(dir)
	wantExecutable(t, "./current/prog", current)
	wantExecutable(t, "current/prog", current)
	wantExecutable(t, "releases/../current/prog", current)

	t.Setenv("PATH", filepath.Join(dir, "nowhere")+":"+filepath.Join(dir, "current"))
	wantExecutable(t, "prog", current)
}

func TestExecutableOfAnUnknownName(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wantExecutable(t, "-bash", exe)
}
