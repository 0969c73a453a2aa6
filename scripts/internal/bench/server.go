package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is a running server of one of the sides.
type server struct {
	name    string
	address string
	cmd     *exec.Cmd
	log     *os.File

	// who takes from an answer what tells processes apart.
	who func(answer string) string

	// isWorker tells from its command line whether a process serves.
	isWorker func(args string) bool

	// reload makes it reload. It may return before that has happened.
	reload func() error
}

// running are the servers to stop when we are stopped.
var running struct {
	sync.Mutex
	all map[*server]bool
}

// start starts the program and returns when it answers.
func (s *server) start(o options, program string, args ...string) error {
	log, err := os.Create(filepath.Join(o.dir, strings.ReplaceAll(s.name, "/", "-")+".log"))
	if err != nil {
		return err
	}
	s.log = log
	s.cmd = exec.Command(program, args...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = append(os.Environ(), "HOME="+o.dir, "XDG_CONFIG_HOME="+o.dir, "XDG_DATA_HOME="+o.dir) // for Caddy
	// Ctrl-C is for us; we stop it
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.reload == nil {
		s.reload = s.signalled(syscall.SIGHUP)
	}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.note(true)
	return s.await()
}

// signalled makes a reload of a signal to the first process.
func (s *server) signalled(sig syscall.Signal) func() error {
	return func() error { return s.cmd.Process.Signal(sig) }
}

// await waits for the first answer.
func (s *server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := s.ask()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.stop()
			return fmt.Errorf("%s does not answer: %w\n%s", s.name, err, s.said())
		}
	}
}

// said is the end of what the server has logged.
func (s *server) said() []byte {
	text, _ := os.ReadFile(s.log.Name())
	return text[max(0, len(text)-2000):]
}

func (s *server) note(runs bool) {
	running.Lock()
	defer running.Unlock()
	if running.all == nil {
		running.all = map[*server]bool{}
	}
	if running.all[s] = runs; !runs {
		delete(running.all, s)
	}
}

// stop ends the server, by force if it takes too long.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	force := time.AfterFunc(15*time.Second, func() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) })
	_ = s.cmd.Wait()
	force.Stop()
	s.note(false)
	s.log.Close()
}

func stopAll() {
	running.Lock()
	all := maps.Clone(running.all)
	running.Unlock()
	for s := range all {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
	}
}

// ask asks who answers, on a connection of its own.
func (s *server) ask() (string, error) {
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return "", err
	}
	_, body, found := strings.Cut(string(answer), "\r\n\r\n")
	who := s.who(body)
	if _, err := strconv.Atoi(who); !found || err != nil {
		return "", fmt.Errorf("unexpected answer %q", answer)
	}
	return who, nil
}

// processes are all that descend from the server's first one.
func (s *server) processes() map[string]bool {
	found := map[string]bool{}
	next := []string{strconv.Itoa(s.cmd.Process.Pid)}
	for len(next) > 0 {
		pid := next[0]
		next = next[1:]
		found[pid] = true
		tasks, _ := filepath.Glob("/proc/" + pid + "/task/*/children")
		for _, t := range tasks {
			text, _ := os.ReadFile(t)
			next = append(next, strings.Fields(string(text))...)
		}
	}
	return found
}

// workers are those of its processes that serve.
func (s *server) workers() map[string]bool {
	found := map[string]bool{}
	for pid := range s.processes() {
		args, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if s.isWorker(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))) {
			found[pid] = true
		}
	}
	return found
}

// tick is the unit of the times in /proc/PID/stat: USER_HZ, which is the same on all machines.
const tick = 10 * time.Millisecond

// cpu is the time that its processes have spent on CPUs.
func (s *server) cpu() time.Duration {
	var sum time.Duration
	for pid := range s.processes() {
		text, _ := os.ReadFile("/proc/" + pid + "/stat")
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 {
			continue
		}
		for _, f := range fields[11:13] { // utime and stime
			n, _ := strconv.Atoi(f)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
