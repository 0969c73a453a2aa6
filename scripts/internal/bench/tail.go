package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"baton/scripts/load"
)

const (
	window         = time.Second
	windowReloads  = 2
	windowsInATurn = 4 // of both kinds
)

// compareTails measures the 99th percentile of answers while the server reloads, and while it does not.
func compareTails(o options) error {
	baton, err := startBaton(o, batonSite{})
	if err != nil {
		return err
	}
	defer baton.stop()
	sides := []*server{baton}
	if o.nginx == "" {
		skipped("nginx beside it", "nginx", "nginx-light")
	} else {
		nginx, err := startNginx(o, 1024)
		if err != nil {
			return err
		}
		defer nginx.stop()
		sides = append(sides, nginx)
	}

	tails := make([]tails, len(sides))
	for range o.fewer(3) {
		for i, s := range sides {
			if err := tails[i].turn(s); err != nil {
				return err
			}
		}
	}
	w := table("32 keep-alive clients", "p99 between reloads", "(least … most)",
		"p99 during reloads", "(least … most)",
		"ratio", "p50 between", "during", "longest between", "during", "requests failed")
	for i, s := range sides {
		t := &tails[i]
		q, d := &t.quiet, &t.during
		fmt.Fprintf(w, "%s\t%.2f ms\t%s\t%.2f ms\t%s\t%.2f\t%.2f ms\t%.2f ms\t%s ms\t%s ms\t%d\n", s.name,
			median(q.p99), span(q.p99), median(d.p99), span(d.p99),
			median(d.p99)/median(q.p99), median(q.p50), median(d.p50), number(slices.Max(q.max)),
			number(slices.Max(d.max)), t.failed)
	}
	w.Flush()
	n := len(tails[0].quiet.p99)
	fmt.Printf("Medians of %d windows of %v with %d reloads and of %d windows with none, which alternate; each "+
		"client waits 0-20 ms between\n"+
		"two requests. The clients run on the same CPUs. The goal is a ratio of at most 1.1.\n", n, window,
		windowReloads, n)
	return nil
}

// tails are what one side has shown.
type tails struct {
	quiet, during windows
	failed        int64
}

// windows are the answers in some windows of time, in milliseconds.
type windows struct{ p50, p99, max []float64 }

func (w *windows) add(times []time.Duration) error {
	if len(times) < 200 {
		return fmt.Errorf("only %d answers within %v", len(times), window)
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	w.p50 = append(w.p50, ms(times[len(times)/2]))
	w.p99 = append(w.p99, ms(times[len(times)*99/100]))
	w.max = append(w.max, ms(times[len(times)-1]))
	return nil
}

// turn has windows of both kinds alternate.
func (t *tails) turn(s *server) error {
	var mu sync.Mutex
	var times []time.Duration
	run := load.Start(context.Background(),
		load.Config{Target: s.address, Classes: load.Mix(0, 32, 0), Look: true, OnResponse: func(r *load.Response) {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, r.Took)
		}})
	defer func() { t.failed += run.Stop().Failed() }()
	take := func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		taken := times
		times = nil
		return taken
	}
	time.Sleep(window / 2)
	for n := range windowsInATurn {
		take()
		into, reloads := &t.quiet, 0
		if n%2 == 1 {
			into, reloads = &t.during, windowReloads
		}
		if err := passWindow(s, reloads); err != nil {
			return err
		}
		if err := into.add(take()); err != nil {
			return err
		}
	}
	return nil
}

// passWindow lets the time of a window pass, with some reloads in it.
func passWindow(s *server, reloads int) error {
	end := time.Now().Add(window)
	for range reloads {
		time.Sleep(window / 10)
		if err := s.reload(); err != nil {
			return err
		}
		time.Sleep(window/time.Duration(reloads) - window/10)
	}
	time.Sleep(time.Until(end))
	return nil
}
