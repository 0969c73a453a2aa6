package control

import (
	"encoding/json"
	"errors"
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

	"baton/master/internal/status"
)

// fakeServer is the server of a client under test.
type fakeServer struct {
	path string
	*http.ServeMux
}

// newFakeServer identifies itself with that PID, unless it is 0.
func newFakeServer(t *testing.T, pid int) *fakeServer {
	t.Helper()
	f := &fakeServer{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	f.listen(t, f.path)
	if pid != 0 {
		f.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { identify(w, pid) })
	}
	return f
}

func identify(w http.ResponseWriter, pid int) {
	_ = json.NewEncoder(w).Encode(status.Identity{SupervisorPID: pid})
}

// listen serves a socket, until the test ends or stop is called.
func (f *fakeServer) listen(t *testing.T, path string) (stop func()) {
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

// impatient returns a client that says soon what is wrong.
func impatient(path string) *Client {
	c := NewClient(path)
	c.Limit, c.Interval = 200*time.Millisecond, 10*time.Millisecond
	return c
}

// startSupervisor starts a process that exits when end is called, which returns when it was reaped.
func startSupervisor(t *testing.T) (pid int, end func()) {
	t.Helper()
	c := exec.Command("cat")
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid, func() {
		_ = stdin.Close()
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// A long answer is awaited as long as baton can be identified, and no longer.
func TestClientAsksAgain(t *testing.T) {
	f := newFakeServer(t, 0)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	var asked atomic.Int32
	f.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) > 5 {
			<-release
		}
		identify(w, os.Getpid())
	})
	f.HandleFunc("POST /reload", func(http.ResponseWriter, *http.Request) { <-release })
	err := impatient(f.path).Ask(t.Context(), "POST", "/reload", nil)
	want := fmt.Sprintf("(pid %d) does not answer; it is not baton", os.Getpid())
	if err == nil || asked.Load() != 6 || !strings.Contains(err.Error(), want) {
		t.Errorf("after %d questions: %v", asked.Load(), err)
	}
}

// A process that holds the socket and never answers, or answers something else, is named, whatever is asked.
func TestClientOfAnotherServer(t *testing.T) {
	silent := filepath.Join(t.TempDir(), "c.sock")
	ln, err := net.Listen("unix", silent) // and accepts nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	other := newFakeServer(t, 0)
	for path, want := range map[string]string{
		silent: "does not answer; it is not baton", other.path: "which listens there, is not baton",
	} {
		for name, call := range map[string]func(*Client) error{
			"ask":  func(c *Client) error { return c.Ask(t.Context(), "GET", "/status", nil) },
			"stop": func(c *Client) error { return c.Stop(t.Context()) },
		} {
			err := call(impatient(path))
			if err == nil || !strings.Contains(err.Error(), want) ||
				!strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
	}
}

func TestClientWithoutServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	err := NewClient(path).Ask(t.Context(), "GET", "/status", nil)
	if want := "nothing listens on the control socket " + path + ": no such file or directory"; err == nil ||
		err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// A baton that exits just as it is asked which it is has exited: it is no other program.
func TestClientOfAnExitingServer(t *testing.T) {
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
	_, err = NewClient(path).Identify(t.Context())
	if want := "nothing listens on the control socket " + path; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// A server that exits while the answer is awaited, or answers an error, in each of the ways there are.
func TestClientErrors(t *testing.T) {
	f := newFakeServer(t, os.Getpid())
	for target, answer := range map[string]http.HandlerFunc{
		"/cut":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"/half": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"id":`)) },
		"/text": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "out of memory", 500) },
		"/json": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"error":"as JSON"}`, http.StatusGone) },
		"/bare": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) },
	} {
		f.HandleFunc(target, answer)
	}
	for _, tt := range []struct {
		target, want string
		code         int
	}{
		{"/cut", "control socket " + f.path + ": baton exited before it answered", 0},
		{"/half", "control socket " + f.path + ": unexpected end of JSON input", 0},
		{"/text", "out of memory", 500},
		{"/json", "as JSON", 410},
		{"/bare", "409 Conflict", 409},
	} {
		var v any
		err := NewClient(f.path).Ask(t.Context(), "GET", tt.target, &v)
		var answered *Error
		if code := 0; errors.As(err, &answered) {
			code = answered.Code
			if code != tt.code {
				t.Errorf("%s: code %d", tt.target, code)
			}
		}
		if err == nil || err.Error() != tt.want || (answered != nil) != (tt.code != 0) {
			t.Errorf("%s: %v, want %s", tt.target, err, tt.want)
		}
	}
}

// Stop returns when the supervisor has exited, and not before. It asks once: to stop twice would be another wish.
func TestStopWaits(t *testing.T) {
	pid, end := startSupervisor(t)
	f := newFakeServer(t, pid)
	var asked atomic.Int32
	reaped := make(chan struct{})
	f.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(202)
		go func() { end(); close(reaped) }()
	})
	if err := NewClient(f.path).Stop(t.Context()); err != nil || asked.Load() != 1 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
	<-reaped
}

// A supervisor that is stopped by SIGSTOP while everything is to stop is not waited for.
func TestStopOfAStoppedSupervisor(t *testing.T) {
	supervisor := exec.Command("sleep", "100")
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = supervisor.Process.Kill(), supervisor.Wait() }()
	f := newFakeServer(t, supervisor.Process.Pid)
	f.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		_ = supervisor.Process.Signal(syscall.SIGSTOP)
		_, _ = w.Write([]byte("{}"))
	})
	want := fmt.Sprintf("(pid %d) does not answer: it is stopped", supervisor.Process.Pid)
	if err := impatient(f.path).Stop(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// A supervisor that exits before it could answer has stopped all the same.
func TestStopWithoutAnswer(t *testing.T) {
	pid, end := startSupervisor(t)
	f := newFakeServer(t, pid)
	f.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) {
		end()
		panic(http.ErrAbortHandler)
	})
	if err := NewClient(f.path).Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// A supervisor that has just identified itself may have exited before it could be asked to stop.
func TestStopOfASupervisorThatHasJustExited(t *testing.T) {
	pid, end := startSupervisor(t)
	end()
	f := &fakeServer{filepath.Join(t.TempDir(), "c.sock"), http.NewServeMux()}
	stop := f.listen(t, f.path)
	f.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		identify(w, pid)
		go stop() // waits for this answer
		for {
			c, err := net.Dial("unix", f.path)
			if err != nil {
				return
			}
			_ = c.Close()
			time.Sleep(time.Millisecond)
		}
	})
	if err := NewClient(f.path).Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// Paths that are too long for the kernel work.
func TestLongPath(t *testing.T) {
	short := t.TempDir()
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100), strings.Repeat("y", 100))
	if err := os.MkdirAll(filepath.Dir(long), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(short, long); err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{path: filepath.Join(short, "c.sock"), ServeMux: http.NewServeMux()}
	f.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { identify(w, os.Getpid()) })
	f.listen(t, f.path)
	if _, err := NewClient(filepath.Join(long, "c.sock")).Identify(t.Context()); err != nil {
		t.Error(err)
	}
	_, err := NewClient(filepath.Join(long, "none.sock")).Identify(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "nothing listens on the control socket "+long) {
		t.Error(err)
	}
}
