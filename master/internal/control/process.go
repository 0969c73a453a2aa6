package control

import (
	"fmt"
	"os"
	"strings"
)

// Process is a process as /proc shows it. Its zero value is one that cannot be seen from here.
type Process struct {
	PID     int
	Name    string // as ps shows it
	Stopped bool   // by SIGSTOP, or by a debugger
}

// Look returns a process as it is now.
func Look(pid int) Process {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}
	}
	return parseStat(pid, string(stat))
}

// parseStat reads "12 (a name) S 1 …"; the name may contain anything.
func parseStat(pid int, stat string) Process {
	begin, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if begin < 0 || end < begin || len(stat) < end+3 {
		return Process{}
	}
	state := stat[end+2]
	return Process{PID: pid, Name: stat[begin+1 : end], Stopped: state == 'T' || state == 't'}
}

// titlePrefix begins the titles of baton's processes, see worker.SetTitle.
const titlePrefix = "baton "

// name returns a title as the kernel keeps it.
func name(title string) string {
	const maxName = 15
	return title[:min(len(title), maxName)]
}

// Silence says that the process does not answer on the control socket, and why as far as that can be seen.
func (p Process) Silence() string {
	switch {
	case p.PID == 0:
		return "no answer, and the process that listens cannot be seen from here"
	case p.Name == name(titlePrefix+"supervisor"):
		return p.NoAnswer("supervisor")
	case strings.HasPrefix(p.Name, titlePrefix):
		return p.NoAnswer("starting baton")
	}
	return p.NoAnswer(fmt.Sprintf("process %q", p.Name)) + "; it is not baton"
}

// NoAnswer says that the process, which is called what, does not answer.
func (p Process) NoAnswer(what string) string {
	text := fmt.Sprintf("the %s (pid %d) does not answer", what, p.PID)
	if p.Stopped {
		text += fmt.Sprintf(": it is stopped (kill -CONT %d lets it go on)", p.PID)
	}
	return text
}
