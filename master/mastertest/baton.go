package mastertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what [Start] starts. The zero value is `baton run` with its embedded default.
type Options struct {
	// Config is the text of site.toml. If empty, there is no such file.
	Config string

	// Files are more files of the directory, by their path in it.
	Files map[string]string

	// Links are symbolic links of the directory, by their path in it.
	Links map[string]string

	// Args follow the program's name. If nil, "run", and "--config site.toml" if there is a Config.
	Args []string

	// Env is added to the environment of the test.
	Env []string

	// Binary is linked into the directory as "baton". If empty, [Build] makes it.
	Binary string

	// Name is in the name of its working directory.
	Name string

	// Terminal gives the process a terminal of its own, on which it is the foreground: see [Baton.Type] and
	// [Baton.HangUp].
	Terminal bool

	// Shell is a script for /bin/sh that starts the program, which it finds as "$BATON" with "$@" as arguments. The
	// supervisor is then what status says it is. If empty, the program is started directly.
	Shell string

	// Namespace makes the program PID 1 of a PID namespace. [Baton.PID] and what takes a PID mean the number outside of
	// it; status says the numbers inside, which [Baton.Outside] translates. See [NeedNamespace].
	Namespace bool

	// Pass are open files that the process finds from 3 on. They are closed here when it has them.
	Pass []*os.File

	// Held says that the test holds the listening sockets as well: the addresses are not free in the end.
	Held bool

	// NoWait returns at once and not when the first generation serves.
	NoWait bool
}

// Baton is a running baton: the process that was started, and what came of it.
type Baton struct {
	// Dir is the working directory, with "baton", "site.toml" and "baton.sock". Its path is short enough for a
	// socket.
	Dir string

	tb     testing.TB
	tmp    string // its directory for temporary files, in which nothing may be left
	cmd    *exec.Cmd
	tool   string   // a binary outside Dir, for commands
	inside bool     // it is PID 1 of a namespace, which unshare(1) has made
	ptmx   *os.File // our side of the terminal, or nil
	log    *logBook
	exited chan struct{}
	code   int // once exited is closed

	mu         sync.Mutex
	supervisor int
	held       bool // as Options say
	replaced   bool // the binary, at least once
	killed     bool // nobody waits for the processes: they end when they notice
	addresses  map[string]bool
}

// Start starts a baton of its own for the test and returns when its first generation serves. At the end of the test
// it is stopped, and the test fails if anything is left of it.
func Start(tb testing.TB, opts Options) *Baton {
	tb.Helper()
	if opts.Binary == "" {
		opts.Binary = Build(tb, BuildOptions{})
	}
	//nolint:usetesting // with the name of the test in it, the path would be too long for a socket
	dir, err := os.MkdirTemp("", "baton"+opts.Name)
	if err != nil {
		tb.Fatal(err)
	}
	tmp := dir + ".tmp" // beside it: users that a program runs as may not enter the directory
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		tb.Fatal(err)
	}
	b := &Baton{
		Dir: dir, tb: tb, tmp: tmp, tool: opts.Binary, exited: make(chan struct{}), held: opts.Held,
		addresses: map[string]bool{},
	}
	tb.Cleanup(func() { os.RemoveAll(dir); os.RemoveAll(tmp) })
	if err := linkOrCopy(b.tool, b.Path("baton")); err != nil {
		tb.Fatal(err)
	}
	if opts.Config != "" {
		b.WriteConfig(opts.Config)
	}
	for name, content := range opts.Files {
		b.WriteFile(name, content)
	}
	for name, to := range opts.Links {
		if err := os.Symlink(to, b.Path(name)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := b.start(opts); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(b.cleanup)
	if !opts.NoWait {
		b.AwaitStatus("the first generation", func(s Status) bool { return s.Generation >= 1 && s.Settled() })
	}
	return b
}

// start starts the process, its output on a pipe or a terminal.
func (b *Baton) start(opts Options) error {
	args := opts.Args
	if args == nil {
		args = []string{"run"}
		if opts.Config != "" {
			args = append(args, "--config", "site.toml")
		}
	}
	b.inside = opts.Namespace
	if opts.Namespace {
		b.cmd = exec.Command("unshare", append(append(namespaceFlags(), b.Path("baton")), args...)...)
	} else if opts.Shell != "" {
		b.cmd = exec.Command("/bin/sh", append([]string{"-c", opts.Shell, "sh"}, args...)...)
	} else {
		b.cmd = exec.Command(b.Path("baton"), args...)
	}
	b.cmd.Dir = b.Dir
	b.cmd.ExtraFiles = opts.Pass
	b.cmd.Env = append(append(environment(), "BATON="+b.Path("baton"), "TMPDIR="+b.tmp), opts.Env...)
	// A session of its own, by which its processes are known whoever becomes their parent.
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	ours, theirs, err := os.Pipe()
	if opts.Terminal {
		ours.Close()
		theirs.Close()
		ours, theirs, err = openTerminal()
		b.cmd.Stdin, b.ptmx = theirs, ours
		b.cmd.SysProcAttr.Setctty = true
	}
	if err != nil {
		return err
	}
	defer theirs.Close()
	b.cmd.Stdout, b.cmd.Stderr = theirs, theirs
	if err := b.cmd.Start(); err != nil {
		ours.Close()
		return err
	}
	for _, f := range opts.Pass {
		f.Close()
	}
	b.log = newLogBook(ours)
	if opts.Shell == "" && !b.inside {
		b.supervisor = b.cmd.Process.Pid
	}
	go func() {
		defer close(b.exited)
		err := b.cmd.Wait()
		b.code = b.cmd.ProcessState.ExitCode()
		if ws, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			b.code = 128 + int(ws.Signal())
		}
		if e := (*exec.ExitError)(nil); err != nil && !errors.As(err, &e) {
			b.code = -1
		}
	}()
	return nil
}

// environment is that of the test. A process with the race detector sleeps for a second before it ends, so that races
// of its last moment are seen; here that would make every takeover look stuck.
func environment() []string {
	return append(os.Environ(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
}

// Path is a file in the directory.
func (b *Baton) Path(name string) string { return filepath.Join(b.Dir, name) }

// PID is the supervisor: the process that was started, unless a shell did that.
func (b *Baton) PID() int {
	b.tb.Helper()
	b.mu.Lock()
	pid := b.supervisor
	b.mu.Unlock()
	if pid == 0 && b.inside {
		Await(b.tb, Text("the first process of the namespace"), func() bool { pid = b.first(); return pid != 0 })
	} else if pid == 0 {
		pid = b.Status().SupervisorPID
	}
	return pid
}

// Signal signals the supervisor. What would end it waits until it has followed to a new binary.
func (b *Baton) Signal(sig unix.Signal) {
	b.tb.Helper()
	if endsSupervisor(sig) {
		b.awaitSupervisor()
	}
	if err := unix.Kill(b.PID(), sig); err != nil {
		b.tb.Errorf("cannot send %v to the supervisor: %v", sig, err)
	}
}

// Kill kills a process of the tree, the supervisor as well.
func (b *Baton) Kill(pid int) {
	b.tb.Helper()
	b.mu.Lock()
	b.killed = b.killed || pid == b.supervisor
	b.mu.Unlock()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		b.tb.Errorf("cannot kill %d: %v", pid, err)
	}
}

// KillAll kills the whole tree at one moment, as far as it can be told: nobody sees the end of another one.
func (b *Baton) KillAll(st Status) {
	b.tb.Helper()
	if err := unix.Kill(st.SupervisorPID, unix.SIGSTOP); err != nil {
		b.tb.Fatal(err)
	}
	others := append(st.PIDs(""), st.MasterPID)
	for _, pid := range others {
		b.Kill(pid)
	}
	for _, pid := range others {
		Await(b.tb, Text("the end of what was killed"), func() bool { return ended(pid) })
	}
	b.Kill(st.SupervisorPID)
}

// Exited is closed when the process that was started has ended.
func (b *Baton) Exited() <-chan struct{} { return b.exited }

// Wait waits for the end of the process that was started and returns its exit code, as a shell would: 128 and more is
// a signal.
func (b *Baton) Wait() int {
	b.tb.Helper()
	return b.WaitFor(Timeout)
}

// WaitFor is [Baton.Wait] with a limit. Beyond it the test fails.
func (b *Baton) WaitFor(d time.Duration) int {
	b.tb.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-b.exited:
		return b.code
	case <-timer.C:
		b.tb.Fatalf("after %v the process still runs: %v", d, b.Tree())
		return -1
	}
}

// Stop stops everything with TERM, as a user would, and checks that it went well.
func (b *Baton) Stop() {
	b.tb.Helper()
	b.noteAddresses()
	b.Signal(unix.SIGTERM)
	if code := b.Wait(); code != 0 {
		b.tb.Errorf("stopped with exit code %d, want 0", code)
	}
	b.WantGone()
}

// WantGone fails the test if anything is left of a baton that has ended: a process, a temporary file, the control
// socket, a port.
func (b *Baton) WantGone() {
	b.tb.Helper()
	b.mu.Lock()
	killed := b.killed
	b.mu.Unlock()
	if killed { // nobody was there to wait for them
		Await(b.tb, func() string { return fmt.Sprint("the end of ", b.Tree()) },
			func() bool { return len(b.Tree()) == 0 })
	}
	for _, p := range b.Tree() {
		b.tb.Errorf("left behind: process %v", p)
	}
	if _, err := os.Lstat(b.Path("baton.sock")); err == nil {
		b.tb.Error("left behind: the control socket")
	}
	files, _ := filepath.Glob(b.tmp + "/*")
	for _, name := range files {
		b.tb.Errorf("left behind: %s", name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for address := range b.addresses {
		if b.held {
			break
		}
		if err := Bindable(address); err != nil {
			b.tb.Errorf("left behind: %v", err)
		}
	}
}

// AwaitGone is [Baton.WantGone] for a process that was started by somebody who did not wait for it: its end may come a
// little later than that of the process that was started.
func (b *Baton) AwaitGone() {
	b.tb.Helper()
	b.mu.Lock()
	b.killed = true
	b.mu.Unlock()
	b.WantGone()
}

// Tree are the living processes of this baton: those of its session, what descends from them, and what runs a binary of
// its directory. The dead that nobody has waited for are left out, and waited for if they have become ours.
func (b *Baton) Tree() []Proc {
	var living []Proc
	session := b.cmd.Process.Pid
	for _, p := range relatives(session, b.Dir) {
		switch {
		case p.State != "Z":
			living = append(living, p)
		case p.PPID == os.Getpid() && p.PID != session:
			// By PID: waiting for any child would take those of os/exec.
			_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
		}
	}
	return living
}

// cleanup ends what the test has not ended, and fails it if anything is left.
func (b *Baton) cleanup() {
	defer b.clear()
	select {
	case <-b.exited:
	default:
		b.noteAddresses()
		b.awaitSupervisor()
		_ = unix.Kill(b.PIDOrStarted(), unix.SIGTERM)
		select {
		case <-b.exited:
		case <-time.After(Timeout):
			b.tb.Errorf("did not stop within %v", Timeout)
		}
	}
	b.WantGone()
}

// clear kills what is left, also if that has failed the test already, and says what the log has.
func (b *Baton) clear() {
	for _, p := range b.Tree() {
		_ = unix.Kill(p.PID, unix.SIGKILL)
	}
	if b.ptmx != nil {
		b.ptmx.Close()
	}
	select {
	case <-b.log.ended:
	case <-time.After(5 * time.Second):
		b.tb.Error("somebody still holds the output that no process of the tree is left to write")
	}
	for _, line := range b.log.complaints() {
		b.tb.Errorf("in the log: %s", line)
	}
	if b.tb.Failed() {
		b.tb.Logf("the log of %s:\n%s", b.tb.Name(), b.Log())
	}
}

// PIDOrStarted is the supervisor if it is known, else the process that was started.
func (b *Baton) PIDOrStarted() int {
	if pid := b.first(); b.inside && pid > 0 {
		return pid
	}
	if s, err := AskStatus(b.Path("baton.sock")); err == nil && s.SupervisorPID > 0 && !b.inside {
		return s.SupervisorPID
	}
	return b.cmd.Process.Pid
}

// Log is what the processes have written so far.
func (b *Baton) Log() string {
	text, _ := b.log.read()
	return text
}

// Silent is closed when nobody is left who could write to the log, and it has been read to its end.
func (b *Baton) Silent() <-chan struct{} { return b.log.ended }

// AwaitLog waits until the log, from an offset on, satisfies the condition.
func (b *Baton) AwaitLog(what string, from int, ok func(text string) bool) {
	b.tb.Helper()
	timer := time.NewTimer(Timeout)
	defer timer.Stop()
	for {
		text, more := b.log.read()
		if ok(text[min(from, len(text)):]) {
			return
		}
		select {
		case <-more:
		case <-timer.C:
			b.tb.Fatalf("after %v still waiting for %s in the log", Timeout, what)
		}
	}
}

// Status asks the control socket. It asks again if nobody answers, for a short while.
func (b *Baton) Status() Status {
	b.tb.Helper()
	var s Status
	var err error
	AwaitFor(b.tb, 10*time.Second, func() string { return fmt.Sprint("an answer of the control socket: ", err) },
		func() bool {
			s, err = b.TryStatus()
			return err == nil
		})
	return s
}

// TryStatus asks the control socket once.
func (b *Baton) TryStatus() (Status, error) {
	s, err := AskStatus(b.Path("baton.sock"))
	if err == nil {
		b.mu.Lock()
		if b.supervisor = s.SupervisorPID; b.inside {
			b.supervisor = b.first()
		}
		for _, l := range s.Listeners {
			b.addresses[l.Address] = true
		}
		b.mu.Unlock()
	}
	return s, err
}

// noteAddresses remembers what must be free in the end.
func (b *Baton) noteAddresses() { _, _ = b.TryStatus() }

// AwaitStatus waits until the status is as wanted, and returns it. It ends early, and the test with it, when the
// process that was started has ended.
func (b *Baton) AwaitStatus(what string, ok func(Status) bool) Status {
	b.tb.Helper()
	var s Status
	var err error
	Await(b.tb, func() string { return fmt.Sprintf("%s; the last status: %+v, %v", what, s, err) }, func() bool {
		select {
		case <-b.exited:
			b.tb.Fatalf("exit code %d while waiting for %s", b.code, what)
		default:
		}
		s, err = b.TryStatus()
		return err == nil && ok(s)
	})
	return s
}

// AwaitGeneration waits until generation n, or a later one, serves.
func (b *Baton) AwaitGeneration(n int) Status {
	b.tb.Helper()
	return b.AwaitStatus(fmt.Sprintf("generation %d", n), func(s Status) bool {
		return s.Generation >= n && len(s.PIDs("serving")) > 0
	})
}

// AwaitSettled waits until nothing is going on: all slots serve, and older generations are gone.
func (b *Baton) AwaitSettled() Status {
	b.tb.Helper()
	return b.AwaitStatus("rest", Status.Settled)
}

// Whoami is the answer of the route of that name.
type Whoami struct {
	Generation int    `json:"generation"`
	Slot       int    `json:"slot"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
}

// Whoami asks a listener who serves, on a new connection.
func (b *Baton) Whoami(address string) (w Whoami, err error) {
	body, err := b.Get(address, "/")
	if err == nil {
		err = json.Unmarshal([]byte(body), &w)
	}
	return w, err
}

// Get asks a listener for a path, once and on a new connection, and returns the body of the answer, which is to be 200.
func (b *Baton) Get(address, path string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: Timeout}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, resp.Status, body)
	}
	return string(body), err
}

// WriteFile writes a file of the directory in place, and the directories above it.
func (b *Baton) WriteFile(name, content string) {
	b.tb.Helper()
	if err := os.MkdirAll(filepath.Dir(b.Path(name)), 0o755); err != nil {
		b.tb.Fatal(err)
	}
	if err := os.WriteFile(b.Path(name), []byte(content), 0o644); err != nil {
		b.tb.Fatal(err)
	}
}

// ReadFile reads a file of the directory.
func (b *Baton) ReadFile(name string) string {
	b.tb.Helper()
	text, err := os.ReadFile(b.Path(name))
	if err != nil {
		b.tb.Fatal(err)
	}
	return string(text)
}

// Exists says whether there is a file of this path.
func Exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// WriteConfig replaces site.toml in one step, as an editor does that saves by rename.
func (b *Baton) WriteConfig(text string) {
	b.tb.Helper()
	if err := os.WriteFile(b.Path(".site.toml.new"), []byte(text), 0o600); err != nil {
		b.tb.Fatal(err)
	}
	if err := os.Rename(b.Path(".site.toml.new"), b.Path("site.toml")); err != nil {
		b.tb.Fatal(err)
	}
}
