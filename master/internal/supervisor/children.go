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

	"baton/master/internal/supervisor/reexec"
)

// AttemptEnv marks the processes of one reload, until and beyond its COMMIT: the successor and its workers. It is how
// what is left of a failed attempt is found, also where it never said a word.
const AttemptEnv = "BATON_ATTEMPT"

// children lists the children of all threads of a process.
func children(pid int) []int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if len(files) == 0 { // a kernel without CONFIG_PROC_CHILDREN, or the process has exited
		return childrenByParent("/proc", pid)
	}
	var all []int
	for _, f := range files {
		b, _ := os.ReadFile(f)
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
		fields := statFields(f)
		if len(fields) < 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if c, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil {
			all = append(all, c)
		}
	}
	return all
}

// statFields returns the fields of a /proc/PID/stat behind the name, which may contain anything.
func statFields(file string) []string {
	b, _ := os.ReadFile(file)
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// Descendants lists all processes below pid.
func Descendants(pid int) []int {
	var all []int
	for _, c := range children(pid) {
		all = append(append(all, c), Descendants(c)...)
	}
	return all
}

// killAttempt kills the workers that the attempt has reported and what else carries its mark. The mark alone is not
// enough: workers that run as another user show it only to a root that has CAP_SYS_PTRACE.
func (linux) killAttempt(id string, workers []int) {
	mark := []byte(AttemptEnv + "=" + id)
	for _, pid := range Descendants(os.Getpid()) {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		isMark := func(kv []byte) bool { return bytes.Equal(kv, mark) }
		if slices.Contains(workers, pid) || slices.ContainsFunc(bytes.Split(env, []byte{0}), isMark) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func (linux) executable(pid int) reexec.FileID { return reexec.Stat(fmt.Sprintf("/proc/%d/exe", pid)) }
