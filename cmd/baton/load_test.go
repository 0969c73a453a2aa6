package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"baton/http/site"
	"baton/master"
)

func TestConfigOfEveryKey(t *testing.T) {
	everything, err := os.ReadFile("testdata/everything.toml")
	if err != nil {
		t.Fatal(err)
	}
	at := dirWith(t, "run")
	// the user is to read it
	if err := errors.Join(os.Chmod(at, 0o755), os.Chmod(filepath.Dir(at), 0o755)); err != nil {
		t.Fatal(err)
	}
	f, warnings, c, err := loadIn(t, at, string(everything))
	if err != nil {
		t.Fatal(explain(err))
	}
	dir := filepath.Dir(f.LogFile)
	var p payload
	if err := json.Unmarshal(c.Payload, &p); err != nil {
		t.Fatal(err)
	}
	c.Payload = nil
	want := master.Config{
		Workers: 3, WorkerCPUs: 2, DrainTimeout: time.Minute, StopTimeout: 2 * time.Second,
		ReadyTimeout:   3 * time.Second,
		User:           &master.User{UID: 4711, GID: 4712, Groups: []int{4712}, Name: "4711"},
		MaxGenerations: 4, MaxRequests: 1000, MaxAge: 24 * time.Hour, MaxMemory: 1e9, MaxConnections: 700,
		HangTimeout: 30 * time.Second,
		Control:     filepath.Join(dir, "run/c.sock"), PIDFile: "/tmp/baton.pid", LogFile: filepath.Join(dir, "log"),
		LogFormat: "json", LogLevel: slog.LevelWarn,
		Listen: []master.Listen{
			{Name: "127.0.0.1:80", Address: "127.0.0.1:80", Transport: "tcp", Process: "http", NoHandover: true},
			{Name: "local", Address: "unix:" + filepath.Join(dir, "web.sock"), Process: "http"},
			{Name: "[::1]:0", Address: "[::1]:0", Process: "http"},
			{Name: "second", Address: "[::1]:0", Process: "http"},
		},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v\nwant\n%+v", c, want)
	}
	empty := ""
	wantPayload := payload{
		ReceiveTimeout: 500 * time.Millisecond, IdleTimeout: 30 * time.Second, MaxHeaderSize: 1000,
		BodyTimeout: 31 * time.Second,
		Site: site.Config{
			UpstreamTimeout: 33 * time.Second, TrustedProxies: []string{"10.0.0.0/8", "unix:"},
			Routes: []site.Route{
				{Path: "/", Static: dir},
				{Path: "/p", Proxy: "http://127.0.0.1:9000/base"},
				{Path: "/r", Respond: &empty, Status: 503, Delay: time.Second},
			},
		},
	}
	if !reflect.DeepEqual(p, wantPayload) {
		t.Errorf("%+v\nwant\n%+v", p, wantPayload)
	}
	if root := os.Geteuid() == 0; root && len(warnings) > 0 ||
		!root && (len(warnings) != 1 || !strings.Contains(warnings[0], "only root")) {
		t.Error(warnings)
	}
	if _, err := site.New(p.Site, site.Self{}, nil); err != nil {
		t.Error(err)
	}
}

func TestConfigWithoutFile(t *testing.T) {
	t.Setenv(controlEnv, "")
	f, _, c, err := loadArgs(t, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := []master.Listen{
		{Name: "127.0.0.1:8080", Address: "127.0.0.1:8080", Process: "http"},
	}; !reflect.DeepEqual(c.Listen, want) {
		t.Errorf("%+v", c.Listen)
	}
	if c.Workers != 0 || len(c.Watch) > 0 || filepath.Base(c.Control) != "baton.sock" || !filepath.IsAbs(c.Control) {
		t.Errorf("%+v", c)
	}
	h, err := site.New(payloadOf(&f).Site, site.Self{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if !strings.Contains(w.Body.String(), "baton serves") {
		t.Error(w.Body)
	}
}

func TestControlAndWatch(t *testing.T) {
	for _, tt := range []struct{ name, config, env, args, control string }{
		{"default", "workers = 1", "", "", "DIR/baton.sock"},
		{"environment", "workers = 1", "e.sock", "", "DIR/e.sock"},
		{"file", `control = "f.sock"`, "e.sock", "", "DIR/f.sock"},
		{"none", `control = ""`, "e.sock", "", ""},
		{"flag", `control = "f.sock"`, "e.sock", "--control g.sock", "DIR/g.sock"},
		{"flag with none", `control = "f.sock"`, "e.sock", "--control=", ""},
	} {
		t.Setenv(controlEnv, tt.env)
		_, _, c, err := loadArgs(t, tt.config, strings.Fields(tt.args)...)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(c.Watch[0])
		if got := strings.Replace(c.Control, dir, "DIR", 1); got != tt.control {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.control)
		}
		if filepath.Base(c.Watch[0]) != "site.toml" || !filepath.IsAbs(dir) {
			t.Errorf("%s: %s", tt.name, c.Watch)
		}
	}
	for _, tt := range []struct{ config, args string }{{"watch = false", ""}, {"workers = 1", "--watch=false"}} {
		if _, _, c, err := loadArgs(t, tt.config, strings.Fields(tt.args)...); err != nil || len(c.Watch) > 0 {
			t.Errorf("%s %s: %s, %v", tt.config, tt.args, c.Watch, err)
		}
	}
	if _, _, c, err := loadArgs(t, "watch = false", "--watch"); err != nil || len(c.Watch) != 1 {
		t.Errorf("--watch: %s, %v", c.Watch, err)
	}
}

// TestConfigFromPipe: what is read from a pipe cannot be read again, and so is not watched.
func TestConfigFromPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	_, _ = w.WriteString("workers = 3\n")
	_ = w.Close()
	l := &loader{callOf("run"), "/"}
	l.config = fmt.Sprintf("/dev/fd/%d", r.Fd())
	c, err := l.Load(t.Context())
	if err != nil || c.Workers != 3 || len(c.Watch) > 0 {
		t.Errorf("%d workers, watches %v, %v", c.Workers, c.Watch, err)
	}
	if _, err := l.Load(t.Context()); exitCode(err) != exitUser || !strings.Contains(err.Error(), "is at its end") {
		t.Errorf("again: %v", err)
	}
}

// TestFilesThatCannotBeMade: what a start would find is found before, and said where it was asked for.
func TestFilesThatCannotBeMade(t *testing.T) {
	t.Setenv(controlEnv, "")
	const file = "workers = 1\ncontrol = \"none/c.sock\"\nlog_file = \"none/log\"\n[[listen]]\naddress = " +
		"\"unix:none/web.sock\"\n"
	dir := t.TempDir()
	for _, tt := range []struct {
		args string
		want []string // each at the beginning of a line
	}{
		{"", []string{
			"site.toml:2:11: control: DIR/none/c.sock: its directory: no such file or directory",
			"site.toml:3:12: log_file: DIR/none/log: its directory: no such file or directory",
			"site.toml:5:11: address: DIR/none/web.sock: its directory: no such file or directory",
		}},
		{"--control=c.sock --pid-file=site.toml", []string{
			"--pid-file: DIR/site.toml: there is a file already, and it is no PID file",
			"site.toml:3:12: log_file:", "site.toml:5:11: address:",
		}},
	} {
		_, _, _, err := loadIn(t, dir, file, strings.Fields(tt.args)...)
		if exitCode(err) != exitUser {
			t.Fatalf("%s: %v", tt.args, err)
		}
		got := strings.ReplaceAll(explain(err), dir, "DIR")
		for _, want := range tt.want {
			if !strings.Contains(got, "baton: "+want) {
				t.Errorf("%s:\n%s\nwant %s", tt.args, got, want)
			}
		}
		if n := strings.Count(got, "baton: "); n != len(tt.want) {
			t.Errorf("%s:\n%s\nwant %d mistakes", tt.args, got, len(tt.want))
		}
	}
}

// TestStaticForUser: what root may read and the workers may not is a mistake, and not a reload that fails.
func TestStaticForUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look as somebody else")
	}
	site := func(user string) string {
		return user + "[[route]]\npath = \"/\"\nstatic = \"www\"\n"
	}
	dir := dirWith(t, "www") // as t.TempDir makes it, root's alone
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := loadIn(t, dir, site("")); err != nil {
		t.Error(err)
	}
	_, _, _, err := loadIn(t, dir, site("user = \"4711\"\ngroup = \"4712\"\n"))
	if err == nil || !strings.Contains(explain(err), "site.toml:5:10: static: ") ||
		!strings.Contains(explain(err), "permission denied") {
		t.Errorf("%v", err)
	}
}

func TestDrainBelowIdleIsAWarning(t *testing.T) {
	_, warnings, _, err := loadArgs(t, "drain_timeout = \"9s\"\n")
	if err != nil || len(warnings) != 1 || !strings.HasPrefix(warnings[0],
		"drain_timeout (9s) is below http.idle_timeout (1m15s): ") {
		t.Errorf("%q, %v", warnings, err)
	}
}

func TestConfigThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "none.toml"), dir} {
		l := &loader{callOf("run"), dir}
		l.config = path
		if _, err := l.Load(t.Context()); exitCode(err) != exitUser {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x.toml"), []byte("x = 1"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := &loader{callOf("run"), dir}
	l.config = "x.toml"
	_, err := l.Load(t.Context())
	if want := filepath.Join(dir, "x.toml") + `:1:1: unknown key "x"`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want) // absolute: who reads it may be elsewhere
	}
}
