package mastertest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Proc is a process as /proc shows it.
type Proc struct {
	PID, PPID, Group, Session int

	// State is one letter: R, S, D, T (stopped), Z (dead and not waited for).
	State string

	// Comm is the process's name.
	Comm string

	// Started is when, in clock ticks since the machine's start. With the PID it names a process for ever.
	Started uint64
}

// String is the process in words.
func (p Proc) String() string {
	return fmt.Sprintf("%d (%s, state %s, parent %d)", p.PID, p.Comm, p.State, p.PPID)
}

// ReadProc looks one process up.
func ReadProc(pid int) (Proc, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Proc{}, err
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return Proc{}, fmt.Errorf("/proc/%d/stat: unexpected form", pid)
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return Proc{}, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	p := Proc{PID: pid, State: f[0], Comm: string(b[open+1 : end])}
	for i, v := range []*int{&p.PPID, &p.Group, &p.Session} {
		if *v, err = strconv.Atoi(f[i+1]); err != nil {
			return Proc{}, err
		}
	}
	p.Started, err = strconv.ParseUint(f[19], 10, 64)
	return p, err
}

// allProcs are the processes of the machine, as far as they can be seen.
func allProcs() []Proc {
	names, _ := filepath.Glob("/proc/[0-9]*")
	procs := make([]Proc, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue
		}
		if p, err := ReadProc(pid); err == nil { // else it has just ended
			procs = append(procs, p)
		}
	}
	return procs
}

// Children are the processes whose parent is pid, the dead that it has not waited for as well.
func Children(pid int) []Proc {
	return slices.DeleteFunc(allProcs(), func(p Proc) bool { return p.PPID != pid })
}

// relatives are the processes of a session, what descends from them, and what runs a file of the directory.
func relatives(session int, dir string) []Proc {
	all := allProcs()
	in := map[int]bool{}
	for _, p := range all {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID))
		if p.PID == session || p.Session == session || strings.HasPrefix(exe, dir+"/") {
			in[p.PID] = true
		}
	}
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			if in[p.PPID] && !in[p.PID] {
				in[p.PID], grown = true, true
			}
		}
	}
	return slices.DeleteFunc(all, func(p Proc) bool { return !in[p.PID] })
}

// OpenFDs are the open files of a process, as the names that /proc gives them ("socket:[123]"), sorted.
func OpenFDs(pid int) ([]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var fds []string
	for _, n := range names {
		if link, err := os.Readlink(filepath.Join(dir, n.Name())); err == nil {
			fds = append(fds, link)
		}
	}
	slices.Sort(fds)
	return fds, nil
}

// FDKinds counts the open files of a process by kind: "socket", "pipe", "anon_inode:[eventpoll]", …; a named file is
// its path. Unlike [OpenFDs] it can be compared between two processes.
func FDKinds(pid int) (map[string]int, error) {
	fds, err := OpenFDs(pid)
	if err != nil {
		return nil, err
	}
	kinds := map[string]int{}
	for _, fd := range fds {
		if kind, _, ok := strings.Cut(fd, ":["); ok && kind != "anon_inode" {
			fd = kind
		}
		kinds[strings.TrimSuffix(fd, " (deleted)")]++
	}
	return kinds, nil
}

// RSS is the resident memory of a process in bytes.
func RSS(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

// CommandLine is the command line of a process as ps shows it, "" if there is no such process.
func CommandLine(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
}
