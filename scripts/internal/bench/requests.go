package main

import (
	"fmt"
	"time"
)

// clients is how many connections are open at a time.
const clients = 32

// kinds are the two ways to send requests.
var kinds = []struct {
	kept bool
	name string
}{
	{true, fmt.Sprintf("%d kept connections", clients)},
	{false, fmt.Sprintf("each on a new connection, %d at a time", clients)},
}

// compareRequests measures requests per second, on kept connections and on new ones.
func compareRequests(o options) error {
	baton, err := startBaton(o, batonSite{})
	if err != nil {
		return err
	}
	defer baton.stop()
	bare, err := startBare(o)
	if err != nil {
		return err
	}
	defer bare.stop()
	var rows []row
	for _, kind := range kinds {
		rate := row{what: "requests/s, " + kind.name, other: bare.name, moreIsBetter: true}
		cost := row{what: "CPU of the server for a request, the same", other: bare.name, unit: "µs"}
		for range o.rounds {
			b, bcost, err := blastAt(baton, kind.kept, o.span)
			if err != nil {
				return err
			}
			t, tcost, err := blastAt(bare, kind.kept, o.span)
			if err != nil {
				return err
			}
			rate.baton, rate.theirs = append(rate.baton, b.rate()), append(rate.theirs, t.rate())
			cost.baton, cost.theirs = append(cost.baton, bcost), append(cost.theirs, tcost)
		}
		rows = append(rows, rate, cost)
	}
	printRows(rows)
	fmt.Printf("baton has 2 workers with one CPU each, net/http is one process with two; the client is one thread "+
		"beside them.\n"+
		"%d rounds of %v of each side in turn.\n", o.rounds, o.span)
	return nil
}

// blastAt sends a server requests and returns what came of it, and the microseconds of CPU that one has cost it.
func blastAt(s *server, kept bool, span time.Duration) (blast, float64, error) {
	before := s.cpu()
	b, err := sendRequests(s.address, kept, span)
	if err != nil {
		return b, 0, fmt.Errorf("%s: %w", s.name, err)
	}
	return b, float64((s.cpu() - before).Microseconds()) / float64(len(b.times)), nil
}
