// Package harness runs a baton for programs that are no tests: soak, and the walk over configurations.
package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"baton/master"
	"baton/master/mastertest"
)

// Timeout is how long anything may take that should come soon. It is used up only by what fails.
const Timeout = 60 * time.Second

// Baton is the one under test. Its directory has the binary, "baton", its config, "site.toml", and what it says, "log".
type Baton struct {
	Dir string

	// Env is added to its environment.
	Env []string

	// Programs is how many instances each worker runs.
	Programs int

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
}

// Path is a file in the directory.
func (b *Baton) Path(name string) string { return filepath.Join(b.Dir, name) }

// Start starts it and returns when it is at rest.
func (b *Baton) Start() error {
	if err := b.Launch(); err != nil {
		return err
	}
	return Until(b.Settled)
}

// Launch starts it and does not wait. It does not outlive this process, however that one ends.
func (b *Baton) Launch() error {
	log, err := os.OpenFile(b.Path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(b.Path("baton"), "run", "--config", "site.toml")
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.Dir, log, log
	cmd.Env = append(os.Environ(), b.Env...)
	// In a session of its own: Ctrl-C is for us, who stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	started, gone := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // it is the death of the parent's thread that is told
		defer close(gone)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cmd, b.gone = cmd, gone
	return nil
}

// Code is the exit code once it has ended, as a shell would say it: 128 and more is a signal.
func (b *Baton) Code() int {
	<-b.Ended()
	if ws, ok := b.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return b.cmd.ProcessState.ExitCode()
}

func (b *Baton) PID() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cmd.Process.Pid
}

func (b *Baton) Ended() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone
}

// Kill ends what is left of it.
func (b *Baton) Kill() {
	for _, pid := range append(b.Tree(), b.PID()) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-b.Ended()
}

// Stop ends it as a user does, and returns how it ended.
func (b *Baton) Stop() error {
	if err := syscall.Kill(b.PID(), syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-b.Ended():
	case <-time.After(Timeout):
		return errors.New("still there after TERM")
	}
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("exit code %d after TERM", code)
	}
	if left := b.Session(); len(left) > 0 {
		return fmt.Errorf("processes left behind: %v", left)
	}
	return nil
}

// Command runs one of baton's own commands, by a binary that is never replaced.
func (b *Baton) Command(tool string, args ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, append(args, "--control", b.Path("baton.sock"))...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Status asks the control socket once.
func (b *Baton) Status() (master.Status, error) {
	st, err := mastertest.AskStatus(b.Path("baton.sock"))
	return st.Status, err
}

// Settled is nil when nothing is going on: every slot has a worker that serves, and no other processes are there.
func (b *Baton) Settled() error {
	st, err := b.Status()
	if err != nil {
		return err
	}
	for _, w := range st.Workers {
		if w.State != "serving" || w.Generation != st.Generation {
			return fmt.Errorf("worker %d of generation %d is %s", w.Slot, w.Generation, w.State)
		}
	}
	if st.State != "serving" || len(st.Workers) != st.WorkersWanted || st.MasterPID == 0 {
		return fmt.Errorf("%s, %d of %d workers", st.State, len(st.Workers), st.WorkersWanted)
	}
	if n, want := len(b.Tree()), 1+len(st.Workers)*(1+b.Programs); n != want {
		return fmt.Errorf("%d processes below the supervisor, want %d", n, want)
	}
	return nil
}

// Tree are the living processes below the supervisor.
func (b *Baton) Tree() []int {
	var all []int
	next := []int{b.PID()}
	for len(next) > 0 {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", next[0]))
		next = next[1:]
		for _, f := range files {
			text, _ := os.ReadFile(f)
			for _, w := range strings.Fields(string(text)) {
				pid, _ := strconv.Atoi(w)
				if p, err := mastertest.ReadProc(pid); err == nil && p.State != "Z" && !slices.Contains(all, pid) {
					all, next = append(all, pid), append(next, pid)
				}
			}
		}
	}
	return all
}

// Session are the living processes of the supervisor's session, whoever is their parent by now.
func (b *Baton) Session() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		if p, err := mastertest.ReadProc(pid); err == nil && p.Session == b.PID() && p.State != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Until asks until the answer is nil, and returns the last one when Patience is over.
func Until(ask func() error) error {
	deadline := time.Now().Add(Timeout)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}
