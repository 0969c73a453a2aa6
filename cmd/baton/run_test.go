package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"baton/cmd/baton/internal/config"
)

func TestCheck(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("site.toml", []byte("drain_timeout = \"9s\"\n[[route]]\npath = \"/\"\nwhoami = true\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("bad.toml", []byte("wrokers = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	expect(t, []string{"check"}, exitOK, "ok: no config file, the built-in page on 127.0.0.1:8080\n", "")
	expect(t, []string{
		"check", "--port", "9", "--config", "site.toml",
	}, exitOK, "site.toml: ok, 1 route on 127.0.0.1:9\n",
		"baton: warning: drain_timeout (9s) is below http.idle_timeout (1m15s): a reload may close idle connections "+
			"that cannot be handed over earlier than their clients expect\n")
	expect(t, []string{"check", "--host", "192.0.2.7"}, exitSystem, "",
		"baton: listen 192.0.2.7:8080: bind: cannot assign requested address\nhint: this machine does not have that "+
			"address\n")
	expect(t, []string{"check", "--config", "bad.toml"}, exitUser, "",
		"baton: bad.toml:1:1: unknown key \"wrokers\"\n    1 | wrokers = 1\n      | ^^^^^^^\nhint: did you mean "+
			"workers?\n")
	dir, _ := os.Getwd()
	expect(t, []string{"check", "--config", "none.toml"}, exitUser, "",
		"baton: config: open "+filepath.Join(dir, "none.toml")+": no such file or directory\nhint: --config names "+
			"the file\n")
}

func TestCommands(t *testing.T) {
	expect(t, []string{"relaod"}, exitUser, "", "baton: there is no command \"relaod\"\nhint: did you mean reload?\n")
	expect(t, []string{"site.toml"}, exitUser, "",
		"baton: there is no command \"site.toml\"\nhint: did you mean baton run --config site.toml?\n")
	expect(t, []string{"xyzzy"}, exitUser, "", "baton: there is no command \"xyzzy\"\nhint: `baton help` lists them\n")
	expect(t, []string{"help", "xyzzy"}, exitUser, "",
		"baton: there is no command \"xyzzy\"\nhint: `baton help` lists them\n")
	for _, tt := range []struct{ args, flag, hint string }{
		{"-v", "-v", "`baton version` shows it"},
		{"-V", "-V", "`baton version` shows it"},
		{"-t", "-t", "`baton check` checks the config"},
		{"-s reload", "-s", "they are commands: baton reload, baton stop"},
		{"-c site.toml", "-c", "did you mean --config?"},
		{"check -c site.toml", "-c", "did you mean --config?"},
		{"status -c site.toml", "-c", "did you mean --config?"},
		{"-p 80", "-p", "did you mean --port?"},
		{"-x", "-x", "`baton help run` lists them"},
		{"stop -p 80", "-p", "`baton help stop` lists them"},
	} {
		expect(t, strings.Fields(tt.args), exitUser, "", "baton: there is no flag "+tt.flag+"\nhint: "+tt.hint+"\n")
	}
	expect(t, []string{"status", "--jsn"}, exitUser, "", "baton: there is no flag --jsn\nhint: did you mean --json?\n")
	was := version
	version = "v2"
	t.Cleanup(func() { version = was })
	for _, args := range [][]string{
		{"version"}, {"--version"}, {"-version"}, {"reload", "--version"}, {"status", "--json", "--version"},
	} {
		expect(t, args, exitOK, "baton v2\n", "")
	}
}

// Every command and every flag is explained, and help that is asked for is no mistake.
func TestHelp(t *testing.T) {
	_, all, _ := baton("help")
	for _, args := range []string{"--help", "-h", "-help"} {
		expect(t, []string{args}, exitOK, all, "")
	}
	for _, c := range commands() {
		if !strings.Contains(all, "\n  "+c.Name+" ") {
			t.Errorf("`baton help` says nothing about %s", c.Name)
		}
		code, out, stderr := baton("help", c.Name)
		if code != exitOK || stderr != "" || !strings.HasPrefix(out, "usage: baton "+c.Name) {
			t.Errorf("%s: %d\n%s%s", c.Name, code, out, stderr)
		}
		for _, f := range c.flags {
			if !strings.Contains(out, "\n  --"+f.Name) || f.About == "" {
				t.Errorf("nothing about --%s of %s", f.Name, c.Name)
			}
		}
		for _, flag := range []string{"-h", "--help", "-help"} {
			expect(t, []string{c.Name, flag}, exitOK, out, "")
		}
	}
	for _, line := range strings.Split(all, "\n") {
		if len(line) > 80 {
			t.Errorf("wider than a terminal: %s", line)
		}
	}
}

// TestExamples: what help shows can be typed.
func TestExamples(t *testing.T) {
	for _, c := range commands() {
		for _, e := range c.Examples {
			line := strings.Fields(e.Line)
			if len(line) > 1 && line[1] == c.Name {
				line = line[1:]
			}
			args := slices.Clone(line[1:])
			if i := slices.IndexFunc(args, func(s string) bool { return s == "|" || s == "&&" || s == ">" }); i >= 0 {
				args = args[:i]
			}
			if err := callOf(c.Name).parse(args); line[0] != "baton" && line[0] != c.Name || err != nil {
				t.Errorf("%s: %v", e.Line, err)
			}
		}
	}
}

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
		code int
	}{
		{errors.New("start: why"), "baton: start: why", exitSystem},
		{
			fmt.Errorf("control socket: listen unix:/b.sock: bind: %w: baton is running already, supervisor PID 7",
				syscall.EADDRINUSE),
			"baton: control socket: listen unix:/b.sock: bind: address already in use: baton is running already, " +
				"supervisor PID 7\n" +
				"hint: stop the other one, or give this one a control socket of its own (--control)", exitSystem,
		},
		{
			fmt.Errorf("listen 127.0.0.1:80: bind: %w", syscall.EADDRINUSE),
			"baton: listen 127.0.0.1:80: bind: address already in use\n" +
				"hint: another process serves there: stop it, or choose another address (--port, or address in the " +
				"config)", exitSystem,
		},
		{
			errors.New("listen :80: bind: permission denied"), "baton: listen :80: bind: permission denied\n" +
				"hint: ports below 1024 and other users' files need permission", exitSystem,
		},
		{fmt.Errorf("load: %w", &usageError{What: "x", Hint: "y"}), "baton: x\nhint: y", exitUser},
	} {
		if got := explain(tt.err); got != tt.want || exitCode(tt.err) != tt.code {
			t.Errorf("%d %s\nwant %d %s", exitCode(tt.err), got, tt.code, tt.want)
		}
	}
}

func TestReason(t *testing.T) {
	one := &usageError{What: "unknown key \"x\"", Hint: "did you mean y?", File: "f", Line: 1, Column: 2}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{one, `f:1:2: unknown key "x"; did you mean y?`},
		{
			config.UsageErrors{First: []*usageError{one, one}},
			`f:1:2: unknown key "x" (and one more mistake); did you mean y?; ` + "`baton check` tells more",
		},
		{
			config.UsageErrors{First: []*usageError{one, one, one}},
			`f:1:2: unknown key "x" (and 2 more mistakes); did you mean y?; ` + "`baton check` tells more",
		},
		{
			config.UsageErrors{First: []*usageError{one, one}, More: 7980},
			`f:1:2: unknown key "x" (and 7981 more mistakes); did you mean y?; ` + "`baton check` tells more",
		},
		{errors.New("why"), "why"},
	} {
		if got := reason(tt.err); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}
