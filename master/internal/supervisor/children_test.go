package supervisor

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/spawn"
)

// sleeper starts a process that does nothing; the test's end kills it.
func sleeper(t *testing.T, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "100")
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// family starts a process with a child, and returns the child's PID.
func family(t *testing.T, env ...string) (parent *exec.Cmd, child int) {
	t.Helper()
	parent = exec.Command("sh", "-c", "sleep 100 & echo $!; wait")
	parent.Env = append(os.Environ(), env...)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if child, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(child, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_ = unix.Close(fd)
		_ = parent.Process.Kill()
		_ = parent.Wait()
	})
	return parent, child
}

// killed waits for the end of cmd.
func killed(cmd *exec.Cmd) bool {
	_ = cmd.Wait()
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// running reports whether cmd has not ended.
func running(cmd *exec.Cmd) bool {
	return slices.Contains(children(os.Getpid()), cmd.Process.Pid) && !zombie(cmd.Process.Pid)
}

func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

func TestChildrenAndDescendants(t *testing.T) {
	t.Parallel()
	alone := sleeper(t)
	parent, child := family(t)
	direct, all := children(os.Getpid()), Descendants(os.Getpid())
	for _, pid := range []int{alone.Process.Pid, parent.Process.Pid} {
		if !slices.Contains(direct, pid) || !slices.Contains(all, pid) {
			t.Errorf("%d is a child: %v, %v", pid, direct, all)
		}
	}
	if slices.Contains(direct, child) || !slices.Contains(all, child) {
		t.Errorf("%d is a grandchild: %v, %v", child, direct, all)
	}
	if got := children(1 << 30); got != nil {
		t.Errorf("children of nobody: %v", got)
	}
}

func TestIsChild(t *testing.T) {
	t.Parallel()
	cmd := sleeper(t)
	_, grandchild := family(t)
	if !(linux{}).isChild(cmd.Process.Pid) || (linux{}).isChild(grandchild) || (linux{}).isChild(os.Getpid()) ||
		(linux{}).isChild(1) {
		t.Error("children are mistaken for others, or others for children")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if (linux{}).isChild(cmd.Process.Pid) {
		t.Error("a child that was reaped")
	}
}

// On a kernel that does not list children the same is found by asking every process for its parent.
func TestChildrenWithoutTheKernelsList(t *testing.T) {
	t.Parallel()
	child := sleeper(t).Process.Pid
	_, grandchild := family(t)
	got := childrenByParent("/proc", os.Getpid())
	if !slices.Contains(got, child) || slices.Contains(got, grandchild) || slices.Contains(got, os.Getpid()) {
		t.Errorf("%v, with %d and without %d", got, child, grandchild)
	}
	proc := t.TempDir()
	for pid, stat := range map[string]string{
		"7": "7 (a) S 1 2) S 50 1", "8": "8 (b) R 51 1", "9": "9 (50) S 5", "10": "", "11": "11 (x) Z 50 0",
	} {
		if err := errors.Join(os.Mkdir(filepath.Join(proc, pid), 0o700),
			os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(stat), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	got = childrenByParent(proc, 50)
	if slices.Sort(got); !slices.Equal(got, []int{7, 11}) {
		t.Errorf("%v", got)
	}
}

func TestKillAttempt(t *testing.T) {
	t.Parallel()
	mine := sleeper(t, AttemptEnv+"=1.2.3")
	parent, _ := family(t, AttemptEnv+"=1.2.3")
	others := []*exec.Cmd{sleeper(t, AttemptEnv+"=1.2.33"), sleeper(t, "X"+AttemptEnv+"=1.2.3"), sleeper(t)}
	reported := sleeper(t)
	linux{}.killAttempt("1.2.3", []int{reported.Process.Pid, os.Getppid()})
	if !killed(mine) || !killed(parent) || !killed(reported) {
		t.Error("a process of the attempt lives on")
	}
	for _, cmd := range others {
		if !running(cmd) {
			t.Errorf("%d was killed: it has no part in it", cmd.Process.Pid)
		}
	}
}

// fork starts a process that nobody waits for, which exec.Cmd's would not be.
func fork(t *testing.T, script string) int {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script},
		&syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// await waits until pid has ended, and leaves it to be reaped.
func await(t *testing.T, pid int) {
	t.Helper()
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err == nil {
			return
		}
		if err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

// reap reaps all that have exited. none: no child is left.
func reap(each func(pid int, ws unix.WaitStatus)) (none bool) {
	for {
		pid, ws, err := linux{}.wait()
		if pid == 0 {
			return errors.Is(err, unix.ECHILD)
		}
		each(pid, ws)
	}
}

// These are not parallel to others, which have children too.

func TestReap(t *testing.T) {
	pids := map[int]int{fork(t, "exit 0"): 0, fork(t, "exit 7"): 7}
	for pid := range pids {
		await(t, pid)
	}
	none := reap(func(pid int, ws unix.WaitStatus) {
		if code, ok := pids[pid]; !ok || ws.ExitStatus() != code {
			t.Errorf("%d: exit status %d, want %d", pid, ws.ExitStatus(), code)
		}
		delete(pids, pid)
	})
	if len(pids) != 0 || !none {
		t.Errorf("not reaped: %v; none left is %v", pids, none)
	}
}

func TestReapWhileOneLives(t *testing.T) {
	pid := fork(t, "exec sleep 100")
	if reap(func(pid int, _ unix.WaitStatus) { t.Errorf("%d has not ended", pid) }) {
		t.Error("no child, but there is one")
	}
	testSupervisor(t).killChildren()
	await(t, pid)
	got := 0
	if !reap(func(p int, ws unix.WaitStatus) {
		got = p
		if !ws.Signaled() || ws.Signal() != unix.SIGKILL {
			t.Errorf("ended with %s", spawn.Describe(ws))
		}
	}) || got != pid {
		t.Errorf("reaped %d, want %d and none left", got, pid)
	}
}

// TestTerminateOrphans: nobody is told to go while one of ours is left.
func TestTerminateOrphans(t *testing.T) {
	obeys, ours := fork(t, "exec sleep 100"), fork(t, "exec sleep 100")
	sv := testSupervisor(t)
	sv.stopping.phase = stopDraining
	now := time.Now()
	for what, is := range map[string]func(yes bool){
		"a worker": func(yes bool) {
			sv.registry.drop(WorkerEntry(ours))
			if yes {
				sv.registry.put(WorkerEntry(ours), entry{FD: -1})
			}
		},
		"a master": func(yes bool) {
			if sv.current = nil; yes {
				sv.current = &masterConn{pid: ours}
			}
		},
		"a master that starts": func(yes bool) {
			if sv.starting = nil; yes {
				sv.starting = &masterConn{pid: ours}
			}
		},
		"a master that is about to end": func(yes bool) {
			if sv.leaving = nil; yes {
				sv.leaving = []int{ours}
			}
		},
		"a successor": func(yes bool) {
			if sv.attempt = nil; yes {
				sv.attempt = &attempt{successor: &masterConn{pid: ours}}
			}
		},
		"somebody who has not said all": func(yes bool) {
			if sv.live = 0; yes {
				sv.live = 1
			}
		},
	} {
		is(true)
		if sv.terminateOrphans(now); sv.stopping.phase == stopOrphans || !sv.stopping.killAt.IsZero() {
			t.Errorf("orphans were terminated while there was %s", what)
		}
		is(false)
	}
	sv.stopping.killAt = now.Add(time.Hour)
	sv.terminateOrphans(now)
	if sv.stopping.phase != stopOrphans || !sv.stopping.killAt.Equal(now.Add(orphanGrace)) {
		t.Errorf("phase %d, KILL at %v", sv.stopping.phase, sv.stopping.killAt)
	}
	for _, pid := range []int{obeys, ours} {
		await(t, pid)
	}
	reap(func(pid int, ws unix.WaitStatus) {
		if ws.Signal() != unix.SIGTERM {
			t.Errorf("%d ended with %s", pid, spawn.Describe(ws))
		}
	})
	sv.stopping.phase, sv.stopping.killAt = stopDraining, now.Add(time.Millisecond)
	if sv.terminateOrphans(now); !sv.stopping.killAt.Equal(now.Add(time.Millisecond)) {
		t.Error("the end of the stop was moved")
	}
}
