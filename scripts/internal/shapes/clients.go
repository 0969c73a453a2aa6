package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"

	"baton/scripts/load"
)

// bound is how long any wait of a client may be. Workers are stopped for less.
const bound = 15 * time.Second

// maxIdle is how long a client leaves its connection idle: below every idle_timeout of a walk.
const maxIdle = 12 * time.Second

// clients are the clients of a walk: some of each class for each target.
type clients struct {
	dir   string
	real  ports
	trust *tls.Config
	book  *ledger
	found func(finding) // told of each failure without an excuse
	seed  uint64

	mu      sync.Mutex
	runs    map[target]*load.Runner
	going   sync.WaitGroup // those that have been told to stop
	reports []*load.Report
}

// classesFor are the clients of a target.
func classesFor(t target) string {
	switch {
	case t.Network == "udp":
		return "datagram=4"
	case t.Process == "echo":
		return "talker=4"
	case t.Process == "websocket-echo":
		return "websocket=3"
	case t.Transport == "tls":
		return "reader=1,writer=1,aged=3,silent=1,new=1,h2=2"
	default:
		return "reader=1,writer=1,aged=4,silent=1,new=1,idle=1,continue=1,upload=2"
	}
}

// follow starts clients for each target that has none.
func (c *clients) follow(all []target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range all {
		if c.runs[t] == nil {
			c.runs[t] = c.start(t)
		}
	}
}

func (c *clients) start(t target) *load.Runner {
	classes, err := load.ParseClasses(classesFor(t))
	if err != nil {
		panic(err) // the classes are ours
	}
	cfg := load.Config{
		Target: t.dial(c.dir, c.real), Classes: classes, Timeout: bound, MaxIdle: maxIdle, Seed: c.seed,
		MinPause: 20 * time.Millisecond, MaxPause: 150 * time.Millisecond, Host: "walk.test",
		Excuse: func(f load.Failure) string {
			why := c.book.excuse(t, f)
			if why == "" {
				text := fmt.Sprintf("%s %v (%s to %s): %s", f.Class, t, f.Local, f.Remote, f.Text)
				c.found(finding{"client: " + string(f.Kind), text})
			}
			return why
		},
	}
	if t.Transport == "tls" {
		cfg.TLS = c.trust
	}
	return load.Start(context.Background(), cfg)
}

// retire tells the clients of all other targets to stop, each after what it has begun; those that are idle ask once
// more.
func (c *clients) retire(keep []target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, r := range c.runs {
		if !slices.Contains(keep, t) {
			delete(c.runs, t)
			c.going.Go(func() { c.note(r.Stop()) })
		}
	}
}

func (c *clients) note(r *load.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports = append(c.reports, r)
}

// stop ends all, and returns what came of them.
func (c *clients) stop() []*load.Report {
	c.retire(nil)
	c.going.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reports
}

// warm waits until each target has answered, as far as that happens within a time: its clients will say if not.
func (c *clients) warm(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end) && !c.answered(); {
		time.Sleep(10 * time.Millisecond)
	}
}

func (c *clients) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.runs {
		if r.Answers() < 3 {
			return false
		}
	}
	return true
}
