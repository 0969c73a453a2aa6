package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"baton/master"
)

// fake is baton at a control socket, for one test.
type fake struct {
	path string
	*http.ServeMux
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	f.listen(t, f.path)
	f.json("GET /version", 200, master.Identity{SupervisorPID: os.Getpid(), Version: "v2"})
	return f
}

// listen serves a socket, until the test ends or stop is called.
func (f *fake) listen(t *testing.T, path string) (stop func()) {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(f)
	s.Listener = ln
	s.Start()
	t.Cleanup(s.Close)
	return s.Close
}

// json answers pattern with v.
func (f *fake) json(pattern string, code int, v any) {
	f.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	})
}

// script answers pattern with one function after the other, and with the last one from then on.
func (f *fake) script(pattern string, steps ...http.HandlerFunc) {
	n := 0
	f.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		step := steps[min(n, len(steps)-1)]
		n++
		step(w, r)
	})
}

func text(code int, s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, s, code) }
}

// breakOff goes away in the middle of a request.
func breakOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func say(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
}

// baton runs a command in this process.
func baton(args ...string) (code int, out, err string) {
	var o, e bytes.Buffer
	code = run(args, &ui{&o, &e})
	return code, o.String(), e.String()
}

func expect(t *testing.T, args []string, wantCode int, wantOut, wantErr string) {
	t.Helper()
	code, out, err := baton(args...)
	if code != wantCode || out != wantOut || err != wantErr {
		t.Errorf("%s: exit code %d\n%s%swant %d\n%s%s", args, code, out, err, wantCode, wantOut, wantErr)
	}
}

func TestReload(t *testing.T) {
	f := newFake(t)
	f.json("POST /reload", 202, map[string]int{"id": 7})
	f.json("GET /reload/7", 200, master.ReloadAnswer{ID: 7, OK: true, Generation: 3})
	expect(t, []string{"reload", "--control", f.path}, exitOK, "generation 3 serves (version v2)\n", "")
}

// TestReloadSaysWhatIsNotServed: the generation serves, but for a listener whose port somebody took in the last moment.
func TestReloadSaysWhatIsNotServed(t *testing.T) {
	f := newFake(t)
	f.json("POST /reload", 202, map[string]int{"id": 7})
	f.json("GET /reload/7", 200, master.ReloadAnswer{ID: 7, OK: true, Generation: 3})
	f.json("GET /status", 200, master.Status{Listeners: []master.ListenerStatus{
		{Name: "web", Address: "127.0.0.1:80", State: "listening"},
		{Name: "api", Address: "127.0.0.1:81", State: "failed", Error: "listen 127.0.0.1:81: address already in use"},
	}})
	expect(t, []string{"reload", "--control", f.path}, exitOK, "generation 3 serves (version v2)\n",
		"baton: warning: not on 127.0.0.1:81 (api): failed, and tried again: listen 127.0.0.1:81: address already "+
			"in use\n")
}

func TestReloadWait(t *testing.T) {
	f := newFake(t)
	f.json("POST /reload", 202, map[string]int{"id": 7})
	a := master.ReloadAnswer{ID: 7, OK: true, Generation: 3, Drained: true, CutRequests: 1, CutConnections: 2}
	f.HandleFunc("GET /reload/7", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("wait") != "drained" {
			t.Error(r.URL)
		}
		_ = json.NewEncoder(w).Encode(a)
	})
	want := "generation 3 serves (version v2)\nolder generations are gone: cut 1 request and 2 connections\n"
	expect(t, []string{"reload", "--control", f.path, "--wait"}, exitOK, want, "")
	a.CutRequests, a.CutConnections = 0, 0
	want = "generation 3 serves (version v2)\nolder generations are gone: nothing was cut\n"
	expect(t, []string{"reload", "-wait", "-control=" + f.path}, exitOK, want, "")
}

func TestReloadFails(t *testing.T) {
	f := newFake(t)
	f.json("POST /reload", 202, map[string]int{"id": 7})
	f.json("GET /reload/7", 200, master.ReloadAnswer{ID: 7, Error: `/site.toml:1:1: unknown key "x"`})
	want := "baton: reload failed: /site.toml:1:1: unknown key \"x\"\n" +
		"hint: the generation before it serves on\n"
	expect(t, []string{"reload", "--control", f.path}, exitFailed, "", want)
}

// Baton ends while the answer is awaited, in each of the ways in which a client can see that.
func TestBatonEndsBeforeItAnswers(t *testing.T) {
	f := newFake(t)
	f.script("POST /reload", breakOff, say(`{"id":`), say(`{"id":7}`))
	f.json("GET /reload/7", 410, map[string]string{"error": "reload: how 7 ended has been forgotten"})
	for _, want := range []string{
		"baton exited before it answered", "unexpected end of JSON input", "has been forgotten",
	} {
		if code, _, stderr := baton("reload", "--control", f.path); code != exitSystem ||
			!strings.Contains(stderr, want) {
			t.Errorf("%d %s, want %s", code, stderr, want)
		}
	}
}

func TestNothingListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	for _, command := range []string{"reload", "status", "stop", "resize"} {
		args := []string{command, "--control", path}
		if command == "resize" {
			args = append(args, "3")
		}
		expect(t, args, exitSystem, "", "baton: nothing listens on the control socket "+path+": no such file or "+
			"directory\n"+
			"hint: is baton running? --control names its socket, or --config the file that does\n")
	}
}

func TestResize(t *testing.T) {
	f := newFake(t)
	f.HandleFunc("POST /resize", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"workers":%s}`, r.FormValue("workers"))
	})
	expect(t, []string{"resize", "5", "--control", f.path}, exitOK, "5 workers\n", "")
	expect(t, []string{"resize", "--control", f.path, "1"}, exitOK, "1 worker\n", "")
	expect(t, []string{"resize", "--control", f.path}, exitUser, "",
		"baton: resize: to how many workers?\nhint: as baton resize 4\n")
	expect(t, []string{"resize", "0"}, exitUser, "",
		"baton: resize: \"0\": want a number from 1 to 1024\nhint: as baton resize 4\n")
	expect(t, []string{"resize", "2", "3"}, exitUser, "", "baton: resize: takes no argument \"3\"\n")
}

func TestRefusals(t *testing.T) {
	f := newFake(t)
	f.script("POST /resize", text(400, "resize: no"), say(""), text(500, "resize: out of memory"),
		text(500, `{"error":"as JSON"}`))
	expect(t, []string{"resize", "5", "--control", f.path}, exitUser, "", "baton: resize: no\n")
	expect(t, []string{"resize", "5", "--control", f.path}, exitOK, "5 workers\n", "")
	expect(t, []string{"resize", "5", "--control", f.path}, exitSystem, "", "baton: resize: out of memory\n")
	expect(t, []string{"resize", "5", "--control", f.path}, exitSystem, "", "baton: as JSON\n")
}

// stop returns when the supervisor has exited.
func TestStop(t *testing.T) {
	supervisor := exec.Command("cat")
	stdin, err := supervisor.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan error, 1)
	f := &fake{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	f.listen(t, f.path)
	f.json("GET /version", 200, master.Identity{SupervisorPID: supervisor.Process.Pid})
	f.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(202)
		_ = stdin.Close()
		go func() { reaped <- supervisor.Wait() }()
	})
	expect(t, []string{"stop", "--control", f.path}, exitOK, "stopped\n", "")
	if err := <-reaped; err != nil {
		t.Error(err)
	}
}

func TestWhereTheSocketIs(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, doc := range map[string]string{
		"sub/has.toml": "control = \"c.sock\"\nunknown = 1\n", "hasnot.toml": "workers = 1\n",
		"none.toml": "control = \"\"\n", "broken.toml": "x =\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ args, env, want, wantErr string }{
		{"", "", "baton.sock", ""},
		{"", "e.sock", "e.sock", ""},
		{"--config sub/has.toml", "e.sock", "sub/c.sock", ""},
		{"--config hasnot.toml", "e.sock", "e.sock", ""},
		{"--config hasnot.toml", "", "baton.sock", ""},
		{"--config sub/has.toml --control f.sock", "e.sock", "f.sock", ""},
		{
			"--config none.toml", "", "",
			"baton: none.toml: control is \"\": there is no control socket\nhint: signals work: see baton help",
		},
		{"--config broken.toml", "", "", "baton: broken.toml:1:4: unexpected character U+000A at start of value\n" +
			"    1 | x =\n      |    ^\nhint: --control names the socket without the file"},
	} {
		t.Setenv(controlEnv, tt.env)
		status := callOf("status")
		if err := status.parse(strings.Fields(tt.args)); err != nil {
			t.Fatal(err)
		}
		c, err := status.client()
		switch {
		case err != nil && explain(err) != tt.wantErr:
			t.Errorf("%s: %s", tt.args, explain(err))
		case err == nil && c.Path() != tt.want:
			t.Errorf("%s: %s, want %s", tt.args, c.Path(), tt.want)
		}
	}
}
