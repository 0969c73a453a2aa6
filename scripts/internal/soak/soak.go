package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"baton/scripts/internal/harness"
	"baton/scripts/load"
)

// soak is one run.
type soak struct {
	options
	baton    *harness.Baton
	tool     string   // runs commands; it is never replaced
	binaries [][]byte // good ones, each with a version of its own
	broken   [][]byte
	large    []byte
	trust    *tls.Config

	loads map[string]*load.Runner
	held  held

	mu     sync.Mutex
	site   site // only one actor edits it
	kills  int  // so far: what fails while one of them happens may be tried again
	counts map[string]int
	odd    []string // what went wrong and was no request
}

func newSoak(o options, dir string) (*soak, error) {
	s := &soak{
		options: o, baton: &harness.Baton{Dir: dir}, tool: o.bin + "/v1", counts: map[string]int{}, held: newHeld(),
		broken: [][]byte{[]byte("this is no program\n"), []byte("#!/bin/sh\nexit 3\n"), nil},
	}
	for _, version := range []string{"v1", "v2", "v3"} {
		b, err := os.ReadFile(o.bin + "/" + version)
		if err != nil {
			return nil, err
		}
		s.binaries = append(s.binaries, b)
	}
	var err error
	if s.site, err = newSite(); err != nil {
		return nil, err
	}
	if s.trust, err = harness.WriteCertificate(dir); err != nil {
		return nil, err
	}
	s.baton.Programs = len(s.site.programs)
	s.large = largeBody()
	if err := os.Mkdir(s.baton.Path("files"), 0o700); err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{
		"files/large": s.large, "site.toml": []byte(s.site.String()),
		"baton": s.binaries[0], "program.js": []byte(nodeProgram),
	} {
		if err := harness.Save(s.baton.Path(name), content, 0o700); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// startLoads starts clients of every class on each of the listeners. A server that says that a connection ends after
// the next answer, as one must over TLS, does not answer what is pipelined behind it: that class is left out there.
func (s *soak) startLoads() {
	all, secure := "", ""
	for _, c := range load.Classes() {
		if c.Name == "poster" {
			continue // for servers that do not echo
		}
		all += fmt.Sprintf("%s=2,", c.Name)
		if c.Name != "pipelined" {
			secure += c.Name + "=1,"
		}
	}
	s.loads = map[string]*load.Runner{
		"web":   s.startLoad(all+"reader=8,writer=8", load.Config{Target: s.site.web}),
		"slots": s.startLoad(all[:len(all)-1], load.Config{Target: s.site.slots}),
		"tls":   s.startLoad(secure[:len(secure)-1], load.Config{Target: s.site.tls, TLS: s.trust}),
	}
	for _, p := range s.site.programs {
		s.loads[p.name] = s.startLoad(secure[:len(secure)-1], load.Config{
			Target: s.site.web, Path: "/" + p.name + "/", EchoPath: "/" + p.name + "/echo",
			LargePath: "/" + p.name + "/large", Excuse: s.held.excuseProgram,
		})
	}
}

func (s *soak) startLoad(classes string, c load.Config) *load.Runner {
	var err error
	if c.Classes, err = load.ParseClasses(classes); err != nil {
		panic(err) // the classes are ours
	}
	c.Seed, c.Timeout, c.Large, c.ReadPause = s.seed, harness.Timeout, s.large, 20*time.Millisecond
	c.LargePath = cmp.Or(c.LargePath, "/files/large")
	if c.Excuse == nil {
		c.Excuse = s.held.excuse
	}
	return load.Start(context.Background(), c)
}

func (s *soak) count(event string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[event]++
}

// oddity notes what must not happen.
func (s *soak) oddity(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := time.Now().Format("15:04:05.000") + " " + fmt.Sprintf(format, args...)
	s.odd = append(s.odd, text)
	fmt.Println("ODD", text)
}

func (s *soak) killed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills++
}

func (s *soak) killsSoFar() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills
}

// await waits until the answer is nil.
func (s *soak) await(what string, ask func() error) {
	if err := harness.Until(ask); err != nil {
		s.oddity("%s: %v", what, err)
	}
}
