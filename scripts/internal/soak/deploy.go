package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"time"

	"baton/master/mastertest"
	"baton/scripts/internal/harness"
)

// event is one thing that can happen. Of two events the one with twice the weight happens twice as often.
type event struct {
	name   string
	weight int
	do     func(*soak, *rand.Rand)
}

// deploys are what users do; each is checked when it is done.
var deploys = []event{
	{"HUP", 20, func(s *soak, _ *rand.Rand) { s.reloadBySignal(syscall.SIGHUP) }},
	{"USR2", 3, func(s *soak, _ *rand.Rand) { s.reloadBySignal(syscall.SIGUSR2) }},
	{"baton reload", 10, func(s *soak, _ *rand.Rand) { s.mustReload() }},
	{"storm of HUPs", 3, (*soak).storm},
	{"edit", 10, (*soak).edit},
	{"workers in the file", 8, (*soak).editWorkers},
	{"baton resize", 8, (*soak).resize},
	{"TTIN, TTOU", 4, (*soak).resizeBySignal},
	{"listener added or removed", 4, (*soak).toggleListener},
	{"new binary", 8, (*soak).replaceBinary},
	{"broken config", 5, (*soak).breakConfig},
	{"broken binary", 5, (*soak).breakBinary},
	{"broken program", 5, (*soak).breakProgram},
}

// mustReload asks for a reload until one succeeds; it may fail only if something was killed meanwhile.
func (s *soak) mustReload() {
	for {
		s.awaitUp()
		kills := s.killsSoFar()
		out, err := s.baton.Command(s.tool, "reload")
		if err == nil {
			return
		}
		if !s.killedSince(kills) {
			s.oddity("baton reload: %v: %s", err, out)
			return
		}
	}
}

// mustNotReload asks for a reload that has to fail, and to say why.
func (s *soak) mustNotReload() {
	kills := s.killsSoFar()
	if out, err := s.baton.Command(s.tool, "reload"); (err == nil || out == "") && !s.killedSince(kills) {
		s.oddity("a reload that had to fail succeeded: %s", out)
	}
}

// reloadBySignal waits until a newer generation serves.
func (s *soak) reloadBySignal(sig syscall.Signal) {
	st, err := s.baton.Status()
	if err != nil {
		s.mustReload() // somebody was killed in this moment; the command knows how to wait
		return
	}
	kills := s.killsSoFar()
	if err := syscall.Kill(s.baton.PID(), sig); err != nil {
		s.killedMeanwhile(kills, "%v: %v", sig, err)
		return
	}
	err = harness.Until(func() error {
		now, err := s.baton.Status()
		if err != nil {
			return err
		}
		if now.Generation <= st.Generation && !s.killedSince(kills) {
			return fmt.Errorf("generation %d still", now.Generation)
		}
		return nil
	})
	if err != nil {
		s.killedMeanwhile(kills, "%v: %v", sig, err)
	}
}

// killedMeanwhile is [soak.oddity], unless something was killed since.
func (s *soak) killedMeanwhile(kills int, format string, args ...any) {
	if !s.killedSince(kills) {
		s.oddity(format, args...)
	}
}

func (s *soak) killedSince(kills int) bool { return s.killsSoFar() != kills || s.held.isDown() }

// awaitUp waits while there is no baton.
func (s *soak) awaitUp() {
	s.await("another baton", func() error {
		if s.held.isDown() {
			return errors.New("none yet")
		}
		return nil
	})
}

func (s *soak) storm(r *rand.Rand) {
	for range 20 + r.IntN(80) {
		_ = syscall.Kill(s.baton.PID(), syscall.SIGHUP)
		time.Sleep(time.Duration(r.Int64N(int64(10 * time.Millisecond))))
	}
	s.edit(r) // is in force in the end, whatever the storm was about
}

// edit changes the file and waits until the change is in force.
func (s *soak) edit(r *rand.Rand) {
	s.site.edits++
	s.write(r)
	s.awaitText()
}

func (s *soak) editWorkers(r *rand.Rand) {
	s.site.workers = 1 + r.IntN(5)
	s.edit(r)
}

// write saves the file by rename, or in place, as editors do.
func (s *soak) write(r *rand.Rand) {
	path, content := s.baton.Path("site.toml"), []byte(s.site.String())
	err := harness.Save(path, content, 0o600)
	if r.IntN(3) == 0 {
		err = writeInPlace(path, content)
	}
	if err != nil {
		s.oddity("config: %v", err)
	}
}

// awaitText waits until the last edit is what is served. An attempt whose process was killed has failed; nobody but us
// asks for another one.
func (s *soak) awaitText() {
	kills := s.killsSoFar()
	want := fmt.Sprint(s.site.edits)
	s.await("edit "+want+" in force", func() error {
		if now := s.killsSoFar(); now != kills {
			kills = now
			s.mustReload()
		}
		s.awaitUp()
		got, err := s.text()
		if err == nil && got != want {
			err = fmt.Errorf("%q is served", got)
		}
		return err
	})
}

// text is what /text answers, on a connection of its own.
func (s *soak) text() (string, error) {
	c, err := net.DialTimeout("tcp", s.site.web, harness.Timeout)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	if _, err := io.WriteString(c, "GET /text HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(c)
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	return body, err
}

func (s *soak) resize(r *rand.Rand) {
	s.resizeTo(1 + r.IntN(6))
}

func (s *soak) resizeTo(n int) {
	kills := s.killsSoFar()
	out, err := s.baton.Command(s.tool, "resize", fmt.Sprint(n))
	if err != nil {
		s.killedMeanwhile(kills, "baton resize %d: %v: %s", n, err, out)
	}
}

func (s *soak) resizeBySignal(r *rand.Rand) {
	sig := []syscall.Signal{syscall.SIGTTIN, syscall.SIGTTOU}[r.IntN(2)]
	_ = syscall.Kill(s.baton.PID(), sig)
}

func (s *soak) toggleListener(r *rand.Rand) {
	if s.site.extra != "" {
		s.site.extra = ""
	} else if address, err := mastertest.PickPort(); err == nil {
		s.site.extra = address
	}
	s.edit(r)
}

func (s *soak) replaceBinary(r *rand.Rand) {
	s.install(s.binaries[r.IntN(len(s.binaries))])
	s.mustReload()
}

func (s *soak) install(binary []byte) {
	if err := harness.Save(s.baton.Path("baton"), binary, 0o700); err != nil {
		s.oddity("binary: %v", err)
	}
}

// breakConfig leaves a broken file for a while, mends it, and looks that it is in force.
func (s *soak) breakConfig(r *rand.Rand) {
	good := s.site.String()
	broken := []string{
		"", "wrokers = 2\n" + good, good + "[[route]]\npath = \"/x\"\nstatic = \"missing\"\n",
		good[:len(good)/2] + "[[", "workers = \"many\"\n",
	}
	if err := harness.Save(s.baton.Path("site.toml"), []byte(broken[r.IntN(len(broken))]), 0o600); err != nil {
		s.oddity("config: %v", err)
	}
	s.mustNotReload()
	s.edit(r)
}

// breakBinary leaves a file that is no baton, or none at all, for a while.
func (s *soak) breakBinary(r *rand.Rand) {
	s.install(s.broken[r.IntN(len(s.broken))])
	s.mustNotReload()
	s.replaceBinary(r)
}
