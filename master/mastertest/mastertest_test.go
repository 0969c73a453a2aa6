package mastertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// standIn is a program that the harness can hold for baton: it does what its first argument says.
const standIn = `package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	switch os.Args[1] {
	case "serve":
		l, err := net.Listen("unix", "baton.sock")
		if err != nil { panic(err) }
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "{\"generation\":1,\"state\":\"serving\",\"supervisor_pid\":%d,\"version\":%q}",
				os.Getpid(), version)
		}))
		fmt.Println("serving")
		<-term
		l.Close()
	case "orphan": // leaves a grandchild in a session of its own behind
		c := exec.Command("/proc/self/exe", "sleep")
		c.Args[0] = os.Args[0]
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil { panic(err) }
		os.Exit(3)
	case "sleep":
		select {}
	}
}

var version = "v0.0.0-stamp-000000"
`

// recorder is a test that may fail without failing the test.
type recorder struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Failed() bool     { return len(r.errors) > 0 }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Error(args ...any) {
	r.errors = append(r.errors, strings.TrimSpace(fmt.Sprintln(args...)))
}
func (r *recorder) Errorf(f string, a ...any) { r.errors = append(r.errors, fmt.Sprintf(f, a...)) }
func (r *recorder) Logf(string, ...any)       {}

func (r *recorder) end() string {
	for _, f := range r.cleanups {
		f()
	}
	return strings.Join(r.errors, "\n")
}

func TestStartAndStop(t *testing.T) {
	t.Parallel()
	b := Start(t, Options{Binary: BuildProgram(t, standIn), Args: []string{"serve"}})
	if got := b.Status().SupervisorPID; got != b.PID() {
		t.Errorf("supervisor %d, started %d", got, b.PID())
	}
	if tree := b.Tree(); len(tree) != 1 || tree[0].PID != b.PID() {
		t.Errorf("tree: %v", tree)
	}
	b.AwaitLog("a word", 0, func(text string) bool { return strings.Contains(text, "serving") })
	if fds, err := FDKinds(b.PID()); err != nil || fds["socket"] == 0 {
		t.Errorf("open files %v, %v", fds, err)
	}
	if rss, err := RSS(b.PID()); err != nil || rss < 1<<20 {
		t.Errorf("memory %d, %v", rss, err)
	}
	b.Stop()
}

// TestOrphanIsFound: what outlives the process that was started is found, though it has left the session, reported, and
// killed.
func TestOrphanIsFound(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	b := Start(r, Options{Binary: BuildProgram(t, standIn), Args: []string{"orphan"}, NoWait: true})
	if code := b.Wait(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	tree := b.Tree()
	if len(tree) != 1 {
		t.Fatalf("tree: %v", tree)
	}
	if text := r.end(); !strings.Contains(text, "left behind: process") {
		t.Errorf("not reported: %q", text)
	}
	Await(t, Text("the orphan's end"), func() bool { return len(b.Tree()) == 0 })
}

// TestComplaintsAreFound: a data race or a panic in any process fails the test.
func TestComplaintsAreFound(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	b := Start(r, Options{Binary: BuildProgram(t, standIn), NoWait: true, Shell: `echo "WARNING: DATA RACE"`})
	b.Wait()
	if text := r.end(); !strings.Contains(text, "DATA RACE") {
		t.Errorf("not reported: %q", text)
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	b := Start(t, Options{Binary: BuildProgram(t, standIn), Args: []string{"serve"}, Terminal: true})
	b.Type(CtrlC)
	if code := b.WaitFor(5 * time.Second); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}

	b = Start(t, Options{Binary: BuildProgram(t, standIn), Args: []string{"serve"}, Terminal: true})
	b.HangUp()
	if code := b.WaitFor(5 * time.Second); code != 128+int(unix.SIGHUP) {
		t.Errorf("exit code %d, want that of a hang-up", code)
	}
	os.Remove(b.Path("baton.sock")) // it had no time to
}

func TestShell(t *testing.T) {
	t.Parallel()
	b := Start(t, Options{
		Binary: BuildProgram(t, standIn), Args: []string{"serve"},
		Shell: `"$BATON" "$@" & wait $!; echo "exit code $?"; exit 7`,
	})
	b.Signal(unix.SIGTERM)
	code := b.Wait()
	<-b.Silent()
	if code != 7 || !strings.Contains(b.Log(), "exit code 0") {
		t.Errorf("exit code %d, log %q", code, b.Log())
	}
}

func TestReplaceBinary(t *testing.T) {
	t.Parallel()
	b := Start(t, Options{Binary: BuildProgram(t, standIn), Args: []string{"serve"}})
	b.ReplaceBinaryBy([]byte("#!/bin/sh\nexit 5\n"))
	if text, err := os.ReadFile(b.Path("baton")); err != nil || len(text) > 100 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if r := b.CLI("none"); r.Code != 0 { // the stand-in ends at once
		t.Errorf("%+v", r)
	}
	b.Stop()
}

// TestPortIsClaimed: the port that one process was given is not given to another.
func TestPortIsClaimed(t *testing.T) {
	t.Parallel()
	address := FreePort(t)
	if l, err := net.Listen("unix", "@baton-test-"+address); err == nil {
		l.Close()
		t.Errorf("another process could be given %s", address)
	}
	if err := Bindable(address); err != nil {
		t.Error(err)
	}
}

// TestBindableWhileOthersFork: a child that has come into being meanwhile does not hold the port that is tried.
func TestBindableWhileOthersFork(t *testing.T) {
	t.Parallel()
	address := FreePort(t)
	done := make(chan struct{})
	var forks sync.WaitGroup
	for range 4 {
		forks.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = exec.Command("/bin/true").Run()
				}
			}
		})
	}
	for range 2000 {
		if err := Bindable(address); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	forks.Wait()
}
