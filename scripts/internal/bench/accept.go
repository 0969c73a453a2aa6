package main

import (
	"fmt"
	"time"
)

// compareAccepts measures the ways to share a port between workers.
func compareAccepts(o options) error {
	type design struct {
		name, listen string
		s            *server
	}
	w := table("workers", "clients", "one shared socket: requests/s", "p99.9", "reuse_port: requests/s", "p99.9", "ratio of requests/s", "of p99.9")
	for _, workers := range []int{2, 16} {
		designs := []*design{{name: "shared"}, {name: "reuse-port", listen: "reuse_port = true\n"}}
		for _, d := range designs {
			s, err := startBaton(o, batonSite{name: fmt.Sprintf("baton-%d-%s", workers, d.name), workers: workers, listen: d.listen})
			if err != nil {
				return err
			}
			defer s.stop()
			d.s = s
		}
		for _, kind := range kinds {
			rates, tails := [2][]float64{}, [2][]float64{}
			for range o.rounds {
				for i, d := range designs {
					b, _, err := blastAt(d.s, kind.kept, o.span/2)
					if err != nil {
						return err
					}
					rates[i] = append(rates[i], b.rate())
					tails[i] = append(tails[i], float64(b.quantile(0.999))/float64(time.Millisecond))
				}
			}
			fmt.Fprintf(w, "%d\t%s\t%s %s\t%s ms %s\t%s %s\t%s ms %s\t%.2f\t%.2f\n", workers, kind.name,
				number(median(rates[0])), span(rates[0]), number(median(tails[0])), span(tails[0]),
				number(median(rates[1])), span(rates[1]), number(median(tails[1])), span(tails[1]),
				median(rates[1])/median(rates[0]), median(tails[1])/median(tails[0]))
		}
	}
	w.Flush()
	fmt.Printf("%d rounds of %v of each side in turn. A third way, an accept(2) that blocks a thread of each worker, is not built.\n", o.rounds, o.span/2)
	return nil
}
