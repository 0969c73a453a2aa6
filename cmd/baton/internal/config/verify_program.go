package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"baton/http/program"
	"baton/master"
)

// Program returns the program as package program runs it.
func (p Program) Program(f *File) program.Program {
	return program.Program{
		Name: p.Name, Command: p.Command, Dir: p.Dir, Env: p.Env, Health: p.Health,
		StopSignal: stopSignal(p.StopSignal), Raw: p.Log == "raw", Timeout: f.HTTP.UpstreamTimeout.Std(),
		ReadyTimeout: f.ReadyTimeout.Std(), TrustedProxies: f.HTTP.TrustedProxies,
	}
}

// stopSignal returns the signal of a name as TERM or SIGTERM; 0 if there is none.
func stopSignal(name string) syscall.Signal {
	return unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
}

func (v *verifier) programNames() (names []string) {
	for _, p := range v.Programs {
		names = append(names, p.Name)
	}
	return names
}

func (v *verifier) programs() {
	names := map[string]string{}
	for i, p := range v.Programs {
		path := fmt.Sprintf("program.%d", i)
		switch {
		case p.Name == "":
			v.wrong(path+".name", `as name = "web"`, "program: the name is missing")
		default:
			v.duplicate(names, p.Name, path+".name", "program "+p.Name)
		}
		if p.Health != "" && !strings.HasPrefix(p.Health, "/") {
			v.wrong(path+".health", fmt.Sprintf("did you mean \"/%s\"?", p.Health), "health: %q does not begin with /",
				p.Health)
		}
		if p.StopSignal != "" && stopSignal(p.StopSignal) == 0 {
			v.wrong(path+".stop_signal", `as "TERM", "INT" or "QUIT"`, "stop_signal: there is no signal %q",
				p.StopSignal)
		}
		if what := p.CheckCommand(v.runAs); what != "" {
			v.wrong(path+".command", `as command = ["node", "server.js"]`, "%s", what)
		}
	}
}

// CheckCommand says why workers that run as that user cannot execute the command, or "".
func (p Program) CheckCommand(as *master.User) string {
	if len(p.Command) == 0 || p.Command[0] == "" {
		return "program: the command is missing"
	}
	if slices.ContainsFunc(p.Command, func(s string) bool { return strings.ContainsRune(s, 0) }) {
		return "command: it has a zero byte"
	}
	name := p.Command[0]
	if strings.Contains(name, "{") {
		return "" // it is known when it is replaced
	}
	if strings.ContainsRune(name, '/') {
		name = Absolute(p.Dir, name)
	}
	err := as.As(func() error { _, err := exec.LookPath(name); return err })
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Sprintf("command: %s is not in PATH", name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("command: %s may not be executed", name)
	case err != nil:
		return fmt.Sprintf("command: %v", err)
	}
	return ""
}
