package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"baton/master"
	"baton/master/mastertest"
)

// patience is how long anything may take that should come soon. It is used up only by what fails.
const patience = 60 * time.Second

// baton is the one under test.
type baton struct {
	dir string

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
}

func (b *baton) path(name string) string { return filepath.Join(b.dir, name) }

// start starts it and returns when it is at rest.
func (b *baton) start() error {
	log, err := os.OpenFile(b.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(b.path("baton"), "run", "--config", "site.toml")
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is for us; we stop it
	if err := cmd.Start(); err != nil {
		return err
	}
	gone := make(chan struct{})
	b.mu.Lock()
	b.cmd, b.gone = cmd, gone
	b.mu.Unlock()
	go func() { _ = cmd.Wait(); close(gone) }()
	return until(b.settled)
}

func (b *baton) pid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cmd.Process.Pid
}

func (b *baton) ended() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone
}

// kill ends what is left of it.
func (b *baton) kill() {
	for _, pid := range append(b.tree(), b.pid()) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-b.ended()
}

// stop ends it as a user does, and returns how it ended.
func (b *baton) stop() error {
	if err := syscall.Kill(b.pid(), syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-b.ended():
	case <-time.After(patience):
		return errors.New("still there after TERM")
	}
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("exit code %d after TERM", code)
	}
	if left := b.session(); len(left) > 0 {
		return fmt.Errorf("processes left behind: %v", left)
	}
	return nil
}

// command runs one of baton's own commands, by a binary that is never replaced.
func (b *baton) command(tool string, args ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, append(args, "--control", b.path("baton.sock"))...)
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// status asks the control socket once.
func (b *baton) status() (master.Status, error) {
	var st master.Status
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", b.path("baton.sock"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://baton/status", nil)
	if err != nil {
		return st, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// settled is nil when nothing is going on: every slot has a worker that serves, and no other processes are there.
func (b *baton) settled() error {
	st, err := b.status()
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
	if n := len(b.tree()); n != 1+len(st.Workers) {
		return fmt.Errorf("%d processes below the keeper, want %d", n, 1+len(st.Workers))
	}
	return nil
}

// tree are the living processes below the keeper.
func (b *baton) tree() []int {
	var all []int
	next := []int{b.pid()}
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

// session are the living processes of the keeper's session, whoever is their parent by now.
func (b *baton) session() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		if p, err := mastertest.ReadProc(pid); err == nil && p.Session == b.pid() && p.State != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// until asks until the answer is nil, and returns the last one when patience is over.
func until(ask func() error) error {
	deadline := time.Now().Add(patience)
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
