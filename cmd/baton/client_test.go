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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// quick is a client of f that is told soon what is wrong.
func (f *fake) quick() *client {
	c := newClient(f.path)
	c.limit, c.every = 200*time.Millisecond, 10*time.Millisecond
	return c
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
		"baton: warning: not on 127.0.0.1:81 (api): failed, and tried again: listen 127.0.0.1:81: address already in use\n")
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
	for _, want := range []string{"baton ended before it answered", "unexpected end of JSON input", "has been forgotten"} {
		if code, _, stderr := baton("reload", "--control", f.path); code != exitSystem || !strings.Contains(stderr, want) {
			t.Errorf("%d %s, want %s", code, stderr, want)
		}
	}
}

// A long answer is awaited as long as there are signs of life, and no longer.
func TestSignsOfLife(t *testing.T) {
	f := &fake{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	f.listen(t, f.path)
	c := f.quick()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	var signs atomic.Int32
	f.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		if signs.Add(1) > 5 {
			<-release
		}
		_ = json.NewEncoder(w).Encode(master.Identity{SupervisorPID: os.Getpid()})
	})
	f.HandleFunc("POST /reload", func(http.ResponseWriter, *http.Request) { <-release })
	var out, errs bytes.Buffer
	if code := c.reload(t.Context(), false, &ui{&out, &errs}); code != exitSystem || signs.Load() != 6 ||
		!strings.Contains(errs.String(), fmt.Sprintf("(pid %d) does not answer; it is not baton", os.Getpid())) {
		t.Errorf("%d, after %d signs of life: %s%s", code, signs.Load(), &out, &errs)
	}
}

// Who holds the socket and never answers, or answers something else, is named, whatever the command is.
func TestSomebodyElseIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	ln, err := net.Listen("unix", path) // and accepts nobody
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	commands := map[string]func(c *client, u *ui) int{
		"reload": func(c *client, u *ui) int { return c.reload(t.Context(), false, u) },
		"status": func(c *client, u *ui) int { return c.printStatus(t.Context(), true, u) },
		"resize": func(c *client, u *ui) int { return c.resize(t.Context(), 2, u) },
		"stop":   func(c *client, u *ui) int { return c.stop(t.Context(), u) },
	}
	other := &fake{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	other.listen(t, other.path)
	for name, do := range commands {
		for _, tt := range []struct {
			f    *fake
			want string
		}{{&fake{path: path}, "does not answer; it is not baton"}, {other, "which listens there, is not baton"}} {
			var out, errs bytes.Buffer
			if code := do(tt.f.quick(), &ui{&out, &errs}); code != exitSystem || out.Len() > 0 ||
				!strings.Contains(errs.String(), tt.want) || !strings.Contains(errs.String(), fmt.Sprint(os.Getpid())) {
				t.Errorf("%s: %d %s%s", name, code, &out, &errs)
			}
		}
	}
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	for _, command := range []string{"reload", "status", "stop", "resize"} {
		args := []string{command, "--control", path}
		if command == "resize" {
			args = append(args, "3")
		}
		expect(t, args, exitSystem, "", "baton: nobody is at the control socket "+path+"\n"+
			"hint: is baton running? --control names its socket, or --config the file that does\n")
	}
}

// TestEndsWhileAsked: baton may end just as somebody asks who is there. Then nobody is there, and no stranger.
func TestEndsWhileAsked(t *testing.T) {
	for _, command := range []string{"reload", "status", "stop"} {
		path := filepath.Join(t.TempDir(), "c.sock")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := ln.Accept(); err == nil {
				_, _ = c.Read(make([]byte, 1000))
				_ = c.Close()
			}
			_ = ln.Close()
		}()
		expect(t, []string{command, "--control", path}, exitSystem, "", "baton: nobody is at the control socket "+path+"\n"+
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
	expect(t, []string{"resize", "--control", f.path}, exitUser, "", "baton: resize: to how many workers?\nhint: as baton resize 4\n")
	expect(t, []string{"resize", "0"}, exitUser, "", "baton: resize: \"0\": want a number from 1 to 1024\nhint: as baton resize 4\n")
	expect(t, []string{"resize", "2", "3"}, exitUser, "", "baton: resize: takes no argument \"3\"\n")
}

func TestRefusals(t *testing.T) {
	f := newFake(t)
	f.script("POST /resize", text(400, "resize: no"), say(""), text(500, "resize: out of memory"), text(500, `{"error":"as JSON"}`))
	expect(t, []string{"resize", "5", "--control", f.path}, exitUser, "", "baton: resize: no\n")
	expect(t, []string{"resize", "5", "--control", f.path}, exitOK, "5 workers\n", "")
	expect(t, []string{"resize", "5", "--control", f.path}, exitSystem, "", "baton: resize: out of memory\n")
	expect(t, []string{"resize", "5", "--control", f.path}, exitSystem, "", "baton: as JSON\n")
}

// stop returns when the supervisor is gone, and not before. It asks once: to stop twice would be another wish.
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
	f := newStopping(t, supervisor.Process.Pid)
	f.script("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(202)
		_ = stdin.Close()
		go func() { reaped <- supervisor.Wait() }()
	}, func(http.ResponseWriter, *http.Request) { t.Error("asked twice") })
	expect(t, []string{"stop", "--control", f.path}, exitOK, "stopped\n", "")
	if err := <-reaped; err != nil {
		t.Error(err)
	}
}

// newStopping is a fake whose supervisor is another process.
func newStopping(t *testing.T, supervisor int) *fake {
	t.Helper()
	f := &fake{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	f.listen(t, f.path)
	f.json("GET /version", 200, master.Identity{SupervisorPID: supervisor})
	return f
}

// A supervisor that is stopped by SIGSTOP while everything is to stop is not waited for.
func TestStopOfAStoppedSupervisor(t *testing.T) {
	supervisor := exec.Command("sleep", "100")
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = supervisor.Process.Kill(), supervisor.Wait() }()
	f := newStopping(t, supervisor.Process.Pid)
	f.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		_ = supervisor.Process.Signal(syscall.SIGSTOP)
		_, _ = w.Write([]byte("{}"))
	})
	var out, errs bytes.Buffer
	want := fmt.Sprintf("(pid %d) does not answer: it is stopped", supervisor.Process.Pid)
	if code := f.quick().stop(t.Context(), &ui{&out, &errs}); code != exitSystem || !strings.Contains(errs.String(), want) {
		t.Errorf("%d %s%s", code, &out, &errs)
	}
}

// A supervisor that ends before it could answer has stopped all the same.
func TestStopWithoutAnswer(t *testing.T) {
	supervisor := exec.Command("cat")
	stdin, err := supervisor.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	f := newStopping(t, supervisor.Process.Pid)
	f.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) {
		_ = stdin.Close()
		_ = supervisor.Wait()
		panic(http.ErrAbortHandler)
	})
	expect(t, []string{"stop", "--control", f.path}, exitOK, "stopped\n", "")
}

// A supervisor that has just said that it is there may be gone before anybody could ask it to stop.
func TestStopOfASupervisorThatHasJustGone(t *testing.T) {
	supervisor := exec.Command("true")
	if err := supervisor.Run(); err != nil {
		t.Fatal(err)
	}
	f := &fake{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	stop := f.listen(t, f.path)
	f.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(master.Identity{SupervisorPID: supervisor.Process.Pid})
		go stop() // waits for this answer
		for mayConnect(f.path) {
			time.Sleep(time.Millisecond)
		}
	})
	expect(t, []string{"stop", "--control", f.path}, exitOK, "stopped\n", "")
}

func mayConnect(path string) bool {
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// Paths that are too long for the kernel work.
func TestLongSocketPath(t *testing.T) {
	short := t.TempDir()
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100), strings.Repeat("y", 100))
	if err := os.MkdirAll(filepath.Dir(long), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(short, long); err != nil {
		t.Fatal(err)
	}
	f := &fake{filepath.Join(long, "c.sock"), http.NewServeMux()}
	f.json("GET /version", 200, master.Identity{SupervisorPID: os.Getpid()})
	f.listen(t, filepath.Join(short, "c.sock"))
	f.json("POST /resize", 200, 1)
	expect(t, []string{"resize", "5", "--control", f.path}, exitOK, "5 workers\n", "")
	expect(t, []string{"resize", "5", "--control", f.path + "x"}, exitSystem, "", "baton: nobody is at the control socket "+f.path+"x\n"+
		"hint: is baton running? --control names its socket, or --config the file that does\n")
}

func TestWhereTheSocketIs(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, doc := range map[string]string{
		"sub/has.toml": "control = \"c.sock\"\nunknown = 1\n", "hasnot.toml": "workers = 1\n", "none.toml": "control = \"\"\n", "broken.toml": "x =\n",
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
		{"--config none.toml", "", "", "baton: none.toml: control is \"\": there is no control socket\nhint: signals work: see baton help"},
		{"--config broken.toml", "", "", "baton: broken.toml:1:4: unexpected character U+000A at start of value\n" +
			"    1 | x =\n      |    ^\nhint: --control names the socket without the file"},
	} {
		t.Setenv(controlEnv, tt.env)
		fs := newClientFlags("status")
		if err := fs.parse(strings.Fields(tt.args), 0); err != nil {
			t.Fatal(err)
		}
		c, err := fs.client()
		switch {
		case err != nil && explain(err) != tt.wantErr:
			t.Errorf("%s: %s", tt.args, explain(err))
		case err == nil && c.path != tt.want:
			t.Errorf("%s: %s, want %s", tt.args, c.path, tt.want)
		}
	}
}
