package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBashCompletion asks bash what it would complete.
func TestBashCompletion(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	_, script, _ := baton("completion", "bash")
	for _, tt := range []struct {
		line string // the last word of it is completed
		want string // one of the words
		not  string
	}{
		{"baton rel", "reload", "run"},
		{"baton ", "status", ""},
		{"baton reload --w", "--wait", "--workers"},
		{"baton --wo", "--workers", "--wait"},
		{"baton status --", "--json", "--port"},
		{"baton help res", "resize", "reload"},
		{"baton completion f", "fish", "bash"},
		{"baton status --control ", "/run/a.sock", "--json"},
	} {
		words := strings.Split(tt.line, " ")
		ask := `baton() { echo /run/a.sock; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_baton
printf '%s\n' "${COMPREPLY[@]}"`
		cmd := exec.CommandContext(t.Context(), bash, append([]string{"-c", script + ask, "bash"}, words...)...)
		out, err := cmd.CombinedOutput()
		if got := strings.Fields(string(out)); err != nil || !slices.Contains(got, tt.want) || slices.Contains(got, tt.not) {
			t.Errorf("%q: %v\n%s", tt.line, err, out)
		}
	}
}

// TestCompletionScripts: the shells that are installed accept theirs, which names every command and flag.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, script, stderr := baton("completion", shell)
		if code != exitOK {
			t.Fatal(stderr)
		}
		for _, c := range commands() {
			for _, f := range c.flags {
				if !strings.Contains(script, "--"+f.Name) && !strings.Contains(script, " -l "+f.Name) {
					t.Errorf("%s: nothing about --%s", shell, f.Name)
				}
			}
			if !strings.Contains(script, c.Name) {
				t.Errorf("%s: nothing about %s", shell, c.Name)
			}
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("SKIPPED: %s is not installed", shell)
			continue
		}
		cmd := exec.CommandContext(t.Context(), path, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
	}
	expect(t, []string{"completion", "csh"}, exitUser, "",
		"baton: completion: there is none for \"csh\"\nhint: there are bash, zsh, fish\n")
}

// TestRunningSockets: of the sockets of this process, those that only their owner may use are control sockets.
func TestRunningSockets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"control.sock": 0o600, "web.sock": 0o666} {
		ln, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	got := runningSockets("/proc")
	if !slices.Contains(got, filepath.Join(dir, "control.sock")) || slices.Contains(got, filepath.Join(dir, "web.sock")) {
		t.Errorf("%q", got)
	}
}

// TestInit: check accepts what init writes, which overwrites nothing.
func TestInit(t *testing.T) {
	t.Chdir(t.TempDir())
	expect(t, []string{"init"}, exitOK, "baton.toml: every key, with its default\n", "")
	code, out, stderr := baton("check", "--config", "baton.toml")
	if code != exitOK || stderr != "" {
		t.Errorf("%d: %s%s", code, out, stderr)
	}
	expect(t, []string{"init"}, exitUser, "",
		"baton: init: baton.toml is there already\nhint: as baton init another.toml\n")
	expect(t, []string{"init", "b.toml"}, exitOK, "b.toml: every key, with its default\n", "")
}
