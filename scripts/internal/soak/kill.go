package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"baton/master/mastertest"
)

// blows are what users do not do.
var blows = []event{
	{"kill -9 a worker", 12, func(s *soak, r *rand.Rand) { s.killOne(r, " worker ") }},
	{"kill -9 an instance", 8, (*soak).killInstance},
	{"kill -9 a master", 8, func(s *soak, r *rand.Rand) { s.killOne(r, " master ") }},
	{"SIGSTOP a worker for a moment", 4, func(s *soak, r *rand.Rand) { s.pauseOne(r, " worker ") }},
	{"SIGSTOP an instance for a moment", 2, func(s *soak, r *rand.Rand) { s.pauseOne(r, " "+programRole+" ") }},
	{"SIGSTOP a master for a moment", 2, func(s *soak, r *rand.Rand) { s.pauseOne(r, " master ") }},
	{"kill -9 the supervisor", 1, (*soak).killSupervisor},
}

// pick is a process of a role, of whatever generation: the current one, a draining one, or one that is starting.
func (s *soak) pick(r *rand.Rand, role string) int {
	pids := slices.DeleteFunc(s.baton.Tree(),
		func(pid int) bool { return !strings.Contains(mastertest.CommandLine(pid), role) })
	if len(pids) == 0 {
		return 0
	}
	return pids[r.IntN(len(pids))]
}

func (s *soak) killOne(r *rand.Rand, role string) {
	if pid := s.pick(r, role); pid != 0 {
		s.killed()
		mastertest.KillHolding(pid, s.held.add)
		s.killed() // what begins before this is excused as well as what ends after the other
	}
}

func (s *soak) pauseOne(r *rand.Rand, role string) {
	if pid := s.pick(r, role); pid != 0 && syscall.Kill(pid, syscall.SIGSTOP) == nil {
		time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// killSupervisor kills the process that was started: everything else ends by itself, and another one can be started at
// once.
func (s *soak) killSupervisor(*rand.Rand) {
	s.held.down()
	defer s.held.up()
	s.killed()
	defer s.killed()
	_ = syscall.Kill(s.baton.PID(), syscall.SIGKILL)
	<-s.baton.Ended()
	s.await("the end of all after the supervisor's", func() error {
		if left := s.baton.Session(); len(left) > 0 {
			return errLeft(left)
		}
		return nil
	})
	if err := s.baton.Start(); err != nil {
		s.oddity("start after the supervisor was killed: %v", err)
	}
}
