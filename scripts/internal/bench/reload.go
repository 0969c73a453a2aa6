package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"baton/scripts/load"
)

// compareReloads measures HUP to the first answer of a new process, at rest and under load.
func compareReloads(o options) error {
	if o.nginx == "" {
		skipped("the reload beside nginx", "nginx", "nginx-light")
		return nil
	}
	nginx, err := startNginx(o, 1024)
	if err != nil {
		return err
	}
	defer nginx.stop()
	baton, err := startBaton(o, batonSite{})
	if err != nil {
		return err
	}
	defer baton.stop()
	sides := []*server{baton, nginx}

	rest := row{what: "HUP to first new answer, at rest", other: "nginx", unit: "ms"}
	if err := timeReloads(o, sides, &rest); err != nil {
		return err
	}
	loaded := row{what: "HUP to first new answer, under load", other: "nginx", unit: "ms"}
	var runs []*load.Runner
	for _, s := range sides {
		runs = append(runs, load.Start(context.Background(),
			load.Config{Target: s.address, Classes: load.Mix(4, 16, 0), Look: true}))
	}
	err = timeReloads(o, sides, &loaded)
	ours, theirs := runs[0].Stop(), runs[1].Stop()
	if err != nil {
		return err
	}
	loaded.note = fmt.Sprintf("; requests failed: baton %d, nginx %d", ours.Failed(), theirs.Failed())
	if ours.Failed() > 0 {
		fmt.Fprint(os.Stderr, ours)
	}
	printRows([]row{rest, loaded})
	fmt.Printf("2 workers each, %d reloads of each side in turn; the clock runs from the signal until an answer, on "+
		"a new connection\n"+
		"each time, comes from a process that was not there before.\n", o.rounds)
	return nil
}

// timeReloads fills a row: the sides take turns, and in who begins.
func timeReloads(o options, sides []*server, r *row) error {
	times := [2][]float64{}
	for round := range o.rounds {
		for turn := range sides {
			i := (round + turn) % 2
			time.Sleep(o.rest)
			took, err := timeReload(sides[i])
			if err != nil {
				return err
			}
			times[i] = append(times[i], took.Seconds()*1000)
		}
	}
	r.baton, r.theirs = times[0], times[1]
	return nil
}

// timeReload sends HUP and asks, on a new connection each time, until a process answers that was not there before. What
// fails meanwhile is asked again: the load beside it counts failures.
func timeReload(s *server) (time.Duration, error) {
	before := s.processes()
	start := time.Now()
	if err := s.reload(); err != nil {
		return 0, err
	}
	failed := errors.New("the same processes answer")
	for time.Since(start) < 10*time.Second {
		who, err := s.ask()
		if err == nil && !before[who] {
			return time.Since(start), nil
		}
		if err != nil {
			failed = err
		}
	}
	return 0, fmt.Errorf("%s has not reloaded within 10 s: %w\n%s", s.name, failed, s.said())
}
