// Package peer tells who is at the other end of a Unix socket, and what to say of a process that does not answer.
package peer

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a process as /proc shows it. Its zero value is one that cannot be seen from here.
type Process struct {
	PID     int
	Name    string // as ps shows it
	Stopped bool   // by SIGSTOP, or by a debugger
}

// Of returns the process that listens on the other side of a connected Unix socket.
func Of(c net.Conn) Process {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return Process{}
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return Process{}
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if cred == nil || err != nil {
		return Process{}
	}
	return Look(int(cred.Pid))
}

// Look returns a process as it is now.
func Look(pid int) Process {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}
	}
	return parse(pid, string(stat))
}

// parse reads "12 (a name) S 1 …"; the name may contain anything.
func parse(pid int, stat string) Process {
	begin, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if begin < 0 || end < begin || len(stat) < end+3 {
		return Process{}
	}
	state := stat[end+2]
	return Process{PID: pid, Name: stat[begin+1 : end], Stopped: state == 'T' || state == 't'}
}

// titles are the names of baton's processes, see worker.SetTitle.
const (
	supervisorTitle = "baton superviso"
	titlePrefix     = "baton "
)

// Silence says that the process does not answer on the control socket, and why as far as that can be seen.
func (p Process) Silence() string {
	switch {
	case p.PID == 0:
		return "no answer, and the process that listens cannot be seen from here"
	case p.Name == supervisorTitle:
		return NoAnswer("supervisor", p)
	case strings.HasPrefix(p.Name, titlePrefix):
		return NoAnswer("starting baton", p)
	}
	return NoAnswer(fmt.Sprintf("process %q", p.Name), p) + "; it is not baton"
}

// NoAnswer says that what, which is process p, does not answer.
func NoAnswer(what string, p Process) string {
	text := fmt.Sprintf("the %s (pid %d) does not answer", what, p.PID)
	if p.Stopped {
		text += fmt.Sprintf(": it is stopped (kill -CONT %d lets it go on)", p.PID)
	}
	return text
}
