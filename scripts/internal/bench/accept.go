package main

import (
	"fmt"
	"time"
)

// ways are those of the command bare in which processes share a port.
var ways = []struct{ name, what string }{
	{"all", "one shared socket, all who wait are woken (package net)"},
	{"turns", "one shared socket, a connection wakes one"},
	{"balanced", "the same, and who is ahead lets others go first (baton)"},
	{"blocking", "one shared socket, a thread of each process blocks in accept"},
	{"slots", "a socket for each process (reuse_port)"},
}

// compareAccepts measures the ways to share a port between workers: the same handler in as many bare net/http
// processes.
func compareAccepts(o options) error {
	for _, workers := range []int{2, 16} {
		for _, kind := range kinds {
			if err := compareWays(o, workers, kind.name, kind.kept); err != nil {
				return err
			}
		}
	}
	fmt.Printf("%d rounds of %v of each way in turn; the ratio is to all.\n", o.rounds, o.span/2)
	return nil
}

func compareWays(o options, workers int, kind string, kept bool) error {
	sides := make([]*server, len(ways))
	for i, way := range ways {
		s, err := startBare(o, "-accept", way.name, "-workers", fmt.Sprint(workers))
		if err != nil {
			return err
		}
		defer s.stop()
		sides[i] = s
	}
	rates, tails, costs := make([][]float64, len(ways)), make([][]float64, len(ways)), make([][]float64, len(ways))
	for range o.rounds {
		for i, s := range sides {
			b, cost, err := blastAt(s, kept, o.span/2)
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], b.rate())
			tails[i] = append(tails[i], float64(b.quantile(0.999))/float64(time.Millisecond))
			costs[i] = append(costs[i], cost)
		}
	}
	w := table(fmt.Sprintf("%d workers, %s", workers, kind), "requests/s", "(least … most)", "ratio", "p99.9",
		"(least … most)", "CPU for a request")
	for i, way := range ways {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%s ms\t%s\t%s µs\n", way.what, number(median(rates[i])), span(rates[i]),
			median(rates[i])/median(rates[0]),
			number(median(tails[i])), span(tails[i]), number(median(costs[i])))
	}
	w.Flush()
	return nil
}
