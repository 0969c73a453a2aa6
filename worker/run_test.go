package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/logsink"
	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/sock"
	"baton/worker/wire"
)

// TestMain: the test binary is the worker too, as every program of the library is.
func TestMain(m *testing.M) {
	if Spawned() {
		os.Exit(Run(roles[os.Getenv("TEST_WORKER")]))
	}
	os.Exit(m.Run())
}

// roles are what a child can be.
var roles = map[string]Func{
	"serves": func(_ context.Context, env *Env) error {
		for _, s := range env.Sockets() {
			if _, err := env.Listener(s.Name); err != nil {
				return err
			}
		}
		ln, err := env.Listener("0")
		if err != nil {
			return err
		}
		env.Ready()
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			if err != nil {
				return err
			}
			_, _ = c.Write(env.Payload())
			_ = c.Close()
			env.Counters.Requests.Add(1)
		}
	},
	"holds its breath": func(ctx context.Context, env *Env) error {
		env.OnHeartbeat(func() {
			select {
			case <-env.Granted():
				env.Counters.Requests.Add(1) // the test is told
				<-ctx.Done()
			default:
			}
		})
		env.Ready()
		<-ctx.Done()
		return nil
	},
	"never ready": func(ctx context.Context, _ *Env) error {
		<-ctx.Done()
		return nil
	},
	"panics":  func(context.Context, *Env) error { panic("on purpose") },
	"fails":   func(context.Context, *Env) error { return errors.New("no disk") },
	"returns": func(context.Context, *Env) error { return nil },
	"logs": func(ctx context.Context, env *Env) error {
		env.Ready()
		<-env.Granted()
		env.Log.Info("hello")
		<-ctx.Done()
		return errors.New("late trouble")
	},
	"executes": func(ctx context.Context, env *Env) error {
		out, err := exec.CommandContext(ctx, "grep", "SigIgn", "/proc/self/status").Output()
		env.Log.Info(strings.Join(strings.Fields(string(out)), " "), "error", err)
		env.Ready()
		<-ctx.Done()
		return nil
	},
	"holds on": func(ctx context.Context, env *Env) error {
		ln, err := env.Listener("0")
		if err != nil {
			return err
		}
		env.Ready()
		var open []net.Conn
		for {
			c, err := ln.Accept()
			if err != nil {
				<-env.Cut()
				runtime.KeepAlive(open)
				return nil
			}
			_, _ = c.Write([]byte("x"))
			open = append(open, c)
		}
	},
	"cuts": func(ctx context.Context, env *Env) error {
		env.Ready()
		<-ctx.Done()
		<-env.Cut()
		env.Counters.CutRequests.Add(2)
		return nil
	},
}

// child is a worker process, whose master the test is.
type child struct {
	*seqpacket.Conn
	t   *testing.T
	cmd *exec.Cmd
	log bytes.Buffer // what it wrote to standard error

	edit  func(*wire.Setup) // nil, or what else is in its setup
	heart int               // a memory file, if that has a hang timeout
}

// start starts a worker, which has got no setup.
func start(t *testing.T, role string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t}
	if c.Conn, err = seqpacket.New(ours); err != nil {
		t.Fatal(err)
	}
	control := os.NewFile(uintptr(theirs), "control")
	defer func() { _ = control.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	c.cmd = exec.CommandContext(ctx, exe, "worker 1")
	c.cmd.Env = append(os.Environ(), RoleEnv+"="+RoleWorker, "TEST_WORKER="+role, "GORACE=atexit_sleep_ms=0")
	c.cmd.ExtraFiles, c.cmd.Stderr = []*os.File{control}, &c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// setUp gives it its setup: with the payload "hello", and the listeners under the names "0", "1" ….
func (c *child) setUp(lns ...net.Listener) *child {
	c.t.Helper()
	payload := c.memory("hello")
	balance, err := sock.NewBalance(2)
	if err != nil {
		c.t.Fatal(err)
	}
	fds := []int{payload, balance}
	setup := wire.Setup{Generation: 3, Slot: 1, Version: "v", Payload: len("hello"), StopTimeout: int64(time.Hour)}
	for i, ln := range lns {
		name := string(rune('0' + i))
		setup.Listeners = append(setup.Listeners, wire.Listener{
			Key: name, Name: name, Address: ln.Addr().String(),
			Transport: "tcp",
		})
		fds = append(fds, dupOf(c.t, ln))
	}
	if c.edit != nil {
		c.edit(&setup)
	}
	if setup.HangTimeout > 0 {
		heart, err := rawfd.Dup(c.heart)
		if err != nil {
			c.t.Fatal(err)
		}
		fds = append(fds, heart)
	}
	c.post(setup, fds...)
	rawfd.CloseAll(fds)
	return c
}

func (c *child) memory(text string) int {
	c.t.Helper()
	fd, err := unix.MemfdCreate("payload", unix.MFD_CLOEXEC)
	if err == nil {
		_, err = unix.Write(fd, []byte(text)) // the offset is at the end now
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return fd
}

func (c *child) post(m wire.Message, fds ...int) {
	c.t.Helper()
	if err := c.Post(m, fds...); err != nil {
		c.t.Fatal(err)
	}
}

// says waits for a message, which is to be of m's kind.
func (c *child) says(m wire.Message) {
	c.t.Helper()
	p, err := c.Recv()
	for err == nil && p.Frame.T == (wire.Takes{}).Kind() && m.Kind() != p.Frame.T { // comes with each Ready and Go
		p.Close()
		p, err = c.Recv()
	}
	if err != nil {
		c.t.Fatalf("%v, want %s; log:\n%s", err, m.Kind(), c.log.String())
	}
	if err := p.Frame.Into(m); err != nil {
		c.t.Fatal(err)
	}
}

// exits waits for the end.
func (c *child) exits(code int) {
	c.t.Helper()
	_ = c.cmd.Wait()
	if got := c.cmd.ProcessState.ExitCode(); got != code {
		c.t.Errorf("%v, want exit code %d; log:\n%s", c.cmd.ProcessState, code, c.log.String())
	}
}

func (c *child) logs(words ...string) {
	c.t.Helper()
	for _, w := range words {
		if !strings.Contains(c.log.String(), w) {
			c.t.Errorf("the log does not say %q:\n%s", w, c.log.String())
		}
	}
}

func (c *child) stats() wire.Stats {
	c.t.Helper()
	c.post(wire.StatsRequest{ID: 9})
	var s wire.Stats
	c.says(&s)
	if s.ID != 9 {
		c.t.Errorf("the answer to question %d", s.ID)
	}
	return s
}

func TestLife(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	c := start(t, "serves").setUp(ln)
	c.says(&wire.Ready{})
	if s := c.stats(); s.State != "ready" {
		t.Errorf("%+v", s)
	}
	client := dial(t, ln.Addr())
	c.post(wire.Go{})
	c.post(wire.Go{}) // an adopted worker gets it again
	if b, err := io.ReadAll(client); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if s := c.stats(); s.State != "serving" {
		t.Errorf("%+v", s)
	}
	c.post(within(time.Hour))
	var bye wire.Bye
	c.says(&bye)
	if bye != (wire.Bye{Requests: 1}) {
		t.Errorf("%+v", bye)
	}
	if _, err := c.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	c.exits(exitOK)
}

// TestDue: a worker that has answered as many requests as it may says so once, and once more to a master that adopts
// it.
func TestDue(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	c := start(t, "serves")
	c.edit = func(s *wire.Setup) { s.MaxRequests = 3 }
	c.setUp(ln)
	c.says(&wire.Ready{})
	c.post(wire.Go{})
	for i := range 5 {
		if i < 3 {
			if s := c.stats(); s.Requests >= 3 {
				t.Errorf("after %d requests: %+v", i, s)
			}
		}
		if b, err := io.ReadAll(dial(t, ln.Addr())); err != nil || string(b) != "hello" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	for range 2 {
		var due wire.Retire
		if c.says(&due); due.Reason != wire.RetireRequests {
			t.Errorf("%+v", due)
		}
		c.stats() // it says nothing more
		c.post(wire.Go{})
	}
	c.says(&wire.Retire{})
	c.post(within(time.Hour))
	c.says(&wire.Bye{})
	c.exits(exitOK)
}

// TestHeartbeat: the bytes change, as long as the Worker's own check returns.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	c := start(t, "holds its breath")
	c.heart = c.memory(strings.Repeat("x", 24))
	defer func() { _ = unix.Close(c.heart) }()
	c.edit = func(s *wire.Setup) { s.HangTimeout, s.Heart, s.MaxRequests = int64(20*time.Millisecond), 8, 1 }
	c.setUp()
	c.says(&wire.Ready{})
	look := func() string {
		b := make([]byte, 24)
		if _, err := unix.Pread(c.heart, b, 0); err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for range 3 {
		before := look()
		for deadline := time.Now().Add(patience); look() == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no heartbeat")
			}
		}
	}
	if all := look(); all[:8] != "xxxxxxxx" || all[16:] != "xxxxxxxx" {
		t.Errorf("%q: it writes where others do", all)
	}
	c.post(wire.Go{}) // now it holds its breath
	c.says(&wire.Retire{})
	before := look()
	time.Sleep(100 * time.Millisecond)
	if look() != before {
		t.Error("a heartbeat, and the check has not returned")
	}
	if s := c.stats(); s.State != "serving" {
		t.Errorf("%+v", s)
	}
	c.post(within(time.Hour))
	c.says(&wire.Bye{})
	c.exits(exitOK)
}

// TestNotReadyYet: a master that adopts a worker asks it whether it is ready.
func TestNotReadyYet(t *testing.T) {
	t.Parallel()
	c := start(t, "never ready").setUp()
	if s := c.stats(); s.State != "starting" {
		t.Errorf("%+v", s)
	}
	c.post(within(time.Hour))
	c.says(&wire.Bye{})
	c.exits(exitOK)
}

func TestEndOfFileBeforeGo(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	for name, until := range map[string]func(*child){
		"before the setup": func(*child) {},
		"after the setup":  func(c *child) { c.setUp(ln) },
		"after READY":      func(c *child) { c.setUp(ln); c.says(&wire.Ready{}) },
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, "serves")
			until(c)
			_ = c.Close()
			c.exits(exitOK)
		})
	}
	client := dial(t, ln.Addr())
	conns, _ := accepting(ln)
	wantServed(t, conns, client)
}

// TestEndOfFileAfterACancel: a worker that was told to drain before GO has nothing to drain, whatever its Serve waits
// for.
func TestEndOfFileAfterACancel(t *testing.T) {
	t.Parallel()
	c := start(t, "logs").setUp() // it waits for GO
	c.says(&wire.Ready{})
	c.post(within(time.Hour))
	if s := c.stats(); s.State != "draining" {
		t.Errorf("%+v", s)
	}
	_ = c.Close()
	c.exits(exitOK)
}

func TestEndOfFileAfterGoDrains(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	c := start(t, "serves").setUp(ln)
	c.says(&wire.Ready{})
	c.post(wire.Go{})
	client := dial(t, ln.Addr())
	if b, err := io.ReadAll(client); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	_ = c.Close()
	c.exits(exitOK)
	c.logs("supervisor and master are gone")
}

func TestCrashes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		role, log string
	}{
		{"panics", "on purpose"},
		{"fails", "no disk"},
		{"returns", "before it was told to drain"},
	} {
		t.Run(tt.role, func(t *testing.T) {
			t.Parallel()
			c := start(t, tt.role).setUp()
			c.says(&wire.Bye{})
			c.exits(exitCrashed)
			c.logs(tt.log, "generation=3 slot=1")
		})
	}
}

func TestTroubleInTheDrainIsNoCrash(t *testing.T) {
	t.Parallel()
	c := start(t, "logs").setUp()
	c.says(&wire.Ready{})
	c.post(within(time.Hour))
	c.post(wire.Go{}) // too late; the role waits for it
	c.says(&wire.Bye{})
	c.exits(exitOK)
	c.logs("late trouble")
}

func TestByeSaysWhatWasCut(t *testing.T) {
	t.Parallel()
	c := start(t, "cuts").setUp()
	c.says(&wire.Ready{})
	c.post(within(time.Hour))
	if s := c.stats(); s.State != "draining" {
		t.Errorf("%+v", s)
	}
	c.post(within(0))
	var bye wire.Bye
	c.says(&bye)
	if bye.CutRequests != 2 {
		t.Errorf("%+v", bye)
	}
	c.exits(exitOK)
	c.logs("drain deadline cut")
}

// TestFuncCounts: connections of a Func count by themselves: for status, for the limit of connections, and for the cut.
func TestFuncCounts(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	c := start(t, "holds on")
	c.edit = func(s *wire.Setup) { s.MaxConnections = 2 }
	c.setUp(ln)
	c.says(&wire.Ready{})
	c.post(wire.Go{})
	for range 2 {
		if _, err := io.ReadFull(dial(t, ln.Addr()), make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	dial(t, ln.Addr())
	s := c.stats()
	for begin := time.Now(); s.AcceptPaused == "" && time.Since(begin) < patience; s = c.stats() {
		time.Sleep(time.Millisecond)
	}
	if s.Conns != 2 || s.AcceptPaused == "" {
		t.Errorf("%d open, accepts: %q", s.Conns, s.AcceptPaused)
	}
	c.post(within(0))
	var bye wire.Bye
	c.says(&bye)
	if bye.CutConns != 2 {
		t.Errorf("%+v", bye)
	}
	c.exits(exitOK)
}

// TestSignalsOfChildren: what a handler executes has all signals as usual; `yes | head` ends.
func TestSignalsOfChildren(t *testing.T) {
	t.Parallel()
	c := start(t, "executes").setUp()
	c.says(&wire.Ready{})
	c.post(within(time.Hour))
	c.says(&wire.Bye{})
	c.exits(exitOK)
	c.logs("SigIgn: 0000000000000000")
}

func TestSignalsAreNotObeyed(t *testing.T) {
	t.Parallel()
	c := start(t, "serves").setUp(shared(t, "tcp", "127.0.0.1:0"))
	c.says(&wire.Ready{})
	c.post(wire.Go{})
	for _, s := range []syscall.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
		syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGPIPE,
	} {
		if err := c.cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
		if st := c.stats(); st.State != "serving" {
			t.Errorf("after %v: %+v", s, st)
		}
	}
	c.post(within(time.Hour))
	c.says(&wire.Bye{})
	c.exits(exitOK)
}

// TestListenerThatNobodyServes: its clients would wait for ever, so the process fails before it says that it is ready.
func TestListenerThatNobodyServes(t *testing.T) {
	t.Parallel()
	c := start(t, "logs").setUp(shared(t, "tcp", "127.0.0.1:0"))
	c.says(&wire.Bye{})
	c.exits(exitCrashed)
	c.logs("does not serve listener 0")
}

func TestLogFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	fd, err := logsink.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, "logs").setUp()
	c.post(wire.LogFile{}, fd)
	rawfd.CloseAll([]int{fd})
	c.says(&wire.Ready{})
	c.post(wire.Go{})
	c.stats() // GO was read, and what it caused is said before the end
	c.post(within(time.Hour))
	c.says(&wire.Bye{})
	c.exits(exitOK)
	if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), "late trouble") {
		t.Errorf("%q, %v", b, err)
	}
	if c.log.Len() != 0 {
		t.Errorf("standard error got %q", c.log.String())
	}
}

func TestSetupThatIsNone(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(c *child){
		"another message":    func(c *child) { c.post(wire.Go{}) },
		"descriptors wanted": func(c *child) { c.post(wire.Setup{Listeners: make([]wire.Listener, 2)}) },
		"short payload": func(c *child) {
			fds := []int{c.memory("hello"), c.memory("")}
			c.post(wire.Setup{Payload: 99}, fds...)
			rawfd.CloseAll(fds)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, "serves")
			send(c)
			c.exits(exitSystem)
			c.logs("setup")
		})
	}
}

func TestStartedByHand(t *testing.T) {
	t.Parallel()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "worker 1")
	cmd.Env = append(os.Environ(), RoleEnv+"="+RoleWorker, "TEST_WORKER=serves", "GORACE=atexit_sleep_ms=0")
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exitUser || !strings.Contains(string(out), "by hand") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
