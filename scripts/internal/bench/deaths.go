package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"baton/master/mastertest"
	"baton/scripts/load"
)

const (
	// deathRounds is how often each process is killed.
	deathRounds = 5
	// deathSpan is how long the clients go on after it.
	deathSpan = 2 * time.Second
	// deathPatience is how long a reload may take, or the end of all after the first process was told to end.
	deathPatience = 12 * time.Second
)

// victim is a process to kill, by what it is for its server.
type victim struct {
	what string
	find func(*server) int
}

// compareDeaths kills one process of a server under load.
func compareDeaths(o options) error {
	sides, stop, err := contestants(o)
	if err != nil {
		return err
	}
	defer stop()
	w := table("kill -9", "of", "failed, held by it", "failed, others", "serves after it", "reloads after it",
		"left when told to stop", "port free")
	for _, side := range sides {
		if side.name == "Caddy" || side.path != "" {
			continue // one process; and baton once
		}
		for _, v := range victimsOf(side.name) {
			if err := side.die(w, v); err != nil {
				return fmt.Errorf("%s, %s: %w", side.name, v.what, err)
			}
		}
	}
	w.Flush()
	fmt.Printf("Sums of %d deaths, each of another server. The clients are those of the table above; held: the "+
		"client's connection was open in the\n"+
		"killed process. Then: does a new connection get an answer; does a reload bring new workers; which processes "+
		"are there %v\n"+
		"after TERM to the first process, if it lives, and can the port be bound.\n", deathRounds, deathPatience)
	return nil
}

// victimsOf are the processes of a server.
func victimsOf(name string) []victim {
	worker := victim{"a worker", func(s *server) int { return lowest(s.workers()) }}
	first := victim{"the master, which is what was started", func(s *server) int { return s.cmd.Process.Pid }}
	switch {
	case name == "baton":
		first.what = "the supervisor, which is what was started"
		return []victim{worker, {"the master", func(s *server) int { return s.find("/baton master ") }}, first}
	case strings.HasPrefix(name, "HAProxy"):
		worker.find = func(s *server) int {
			pids := s.workers()
			delete(pids, strconv.Itoa(s.cmd.Process.Pid))
			return lowest(pids)
		}
	}
	return []victim{worker, first}
}

func lowest(pids map[string]bool) int {
	least := 0
	for text := range pids {
		if pid, err := strconv.Atoi(text); err == nil && (least == 0 || pid < least) {
			least = pid
		}
	}
	return least
}

// find is a process of the server by a part of its command line.
func (s *server) find(part string) int {
	for pid := range s.processes() {
		if n, err := strconv.Atoi(pid); err == nil && strings.Contains(mastertest.CommandLine(n)+" ", part) {
			return n
		}
	}
	return 0
}

// tolls is what the deaths of one kind have cost.
type tolls struct {
	held, others                          int64
	serves, reloads, left, free, measured int
}

func (c contestant) die(w io.Writer, v victim) error {
	var sum tolls
	for range deathRounds {
		if err := c.dieOnce(v, &sum); err != nil {
			return err
		}
	}
	of := func(n int) string { return fmt.Sprintf("%d of %d", n, sum.measured) }
	_, err := fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\t%d processes\t%s\n", v.what, c.name, sum.held, sum.others,
		of(sum.serves), of(sum.reloads), sum.left, of(sum.free))
	return err
}

func (c contestant) dieOnce(v victim, sum *tolls) error {
	classes, err := load.ParseClasses(c.clients)
	if err != nil {
		return err
	}
	s, err := c.start()
	if err != nil {
		return err
	}
	defer s.wipe()
	var held map[mastertest.Ends]bool
	run := load.Start(context.Background(), load.Config{
		Target: s.address, Classes: classes, EchoPath: c.path,
		Look: true, Timeout: 5 * time.Second, Excuse: func(f load.Failure) string {
			// set before the process dies, and so before anything can fail
			if held[mastertest.Ends{Client: f.Local, Server: f.Remote}] {
				return "held"
			}
			return ""
		},
	})
	time.Sleep(deathSpan / 4)
	mastertest.KillHolding(v.find(s), func(served map[mastertest.Ends]bool) { held = served })
	time.Sleep(deathSpan)
	_, err = s.ask()
	sum.serves += one(err == nil)
	report := run.Stop()
	sum.held += report.Total.Excused["held"]
	sum.others += report.Failed()
	sum.reloads += one(s.reloads())
	left, free := s.afterTerm()
	sum.left += left
	sum.free += one(free)
	sum.measured++
	return nil
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// reloads reports whether a reload brings workers that were not there before.
func (s *server) reloads() bool {
	before := s.session()
	if s.reload() != nil {
		return false
	}
	return within(deathPatience/4, func() bool {
		return slices.ContainsFunc(s.session(), func(pid int) bool {
			return !slices.Contains(before, pid) && s.isWorker(mastertest.CommandLine(pid)+" ")
		})
	})
}

// afterTerm tells the first process to end, and says what is there afterwards.
func (s *server) afterTerm() (left int, free bool) {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	within(deathPatience, func() bool { return len(s.session()) == 0 })
	l, err := net.Listen("tcp", s.address)
	if err == nil {
		l.Close()
	}
	return len(s.session()), err == nil
}

// session are the living processes of the server's session, whoever is their parent.
func (s *server) session() (pids []int) {
	names, _ := filepath.Glob("/proc/[0-9]*")
	for _, name := range names {
		pid, _ := strconv.Atoi(filepath.Base(name))
		if p, err := mastertest.ReadProc(pid); err == nil && p.Session == s.cmd.Process.Pid && p.State != "Z" {
			pids = append(pids, pid)
		}
	}
	return pids
}

// wipe ends the server by force, and what has lost its parent.
func (s *server) wipe() {
	for _, pid := range s.session() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	s.stop()
}

// within asks until the answer is yes, or the time is over.
func within(d time.Duration, ask func() bool) bool {
	deadline := time.Now().Add(d)
	for !ask() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
	return true
}
