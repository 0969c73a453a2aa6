package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// AttemptEnv marks the processes of one reload, until and beyond its COMMIT: the successor and its workers. It is how
// what is left of a failed attempt is found, also where it never said a word.
const AttemptEnv = "BATON_ATTEMPT"

// reap collects every child that has ended. none is true when there is no child left at all.
func reap(each func(pid int, status unix.WaitStatus)) (none bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return true
		case err != nil || pid <= 0:
			return false
		}
		each(pid, ws)
	}
}

// isChild reports whether pid is a child that has not been reaped. Nothing but that may be signalled by number.
func isChild(pid int) bool {
	if pid <= 0 {
		return false
	}
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == nil
		}
	}
}

// children lists the direct children of a process, of all its threads.
func children(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if len(files) == 0 { // a kernel without CONFIG_PROC_CHILDREN, or the process has gone
		return childrenByParent("/proc", pid)
	}
	var all []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, w := range strings.Fields(string(b)) {
			if c, err := strconv.Atoi(w); err == nil {
				all = append(all, c)
			}
		}
	}
	return all
}

// childrenByParent finds the same by asking every process for its parent.
func childrenByParent(proc string, pid int) []int {
	files, _ := filepath.Glob(proc + "/[0-9]*/stat")
	var all []int
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(b[max(0, bytes.LastIndexByte(b, ')')):]), " ") // the name may contain anything
		fields := strings.Fields(after)
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if c, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			all = append(all, c)
		}
	}
	return all
}

// descendants lists all processes below pid.
func descendants(pid int) []int {
	var all []int
	for _, c := range children(pid) {
		all = append(append(all, c), descendants(c)...)
	}
	return all
}

// killAttempt kills, below this process, the workers that the attempt has reported and what else carries its mark. The
// mark alone is not enough: workers that run as another user show it only to a root that has CAP_SYS_PTRACE.
func killAttempt(id string, workers []int) {
	mark := []byte(AttemptEnv + "=" + id)
	for _, pid := range descendants(os.Getpid()) {
		if slices.Contains(workers, pid) || slices.ContainsFunc(environment(pid), func(kv []byte) bool { return bytes.Equal(kv, mark) }) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func environment(pid int) [][]byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil
	}
	return bytes.Split(b, []byte{0})
}

// killChildren kills every direct child; theirs come to this process, and are killed when it reaps.
func killChildren() {
	for _, pid := range children(os.Getpid()) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}
