// Command soak does to a baton under load whatever may happen to it, for minutes or for hours: reloads, new binaries,
// resizes, broken configs and binaries, and kill -9 of random processes. In the end it says what failed that need not
// have. The script scripts/soak builds everything and runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"baton/scripts/internal/harness"
)

// options are the flags.
type options struct {
	bin      string // directory with the binaries that scripts/soak has built
	duration time.Duration
	seed     uint64
	reloads  int
	kills    bool
	keep     bool
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == programRole {
		if err := serveProgram(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "soak:", err)
			os.Exit(1)
		}
		return
	}
	harness.Main(parse, run)
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "", "the `directory` of the binaries (set by the script)")
	flags.DurationVar(&o.duration, "d", 5*time.Minute, "how long")
	flags.Uint64Var(&o.seed, "seed", 0, "for the same events in the same order again; 0: others each time")
	flags.IntVar(&o.reloads, "reloads", 0, "this many reloads in a row and nothing else; then -d says nothing")
	flags.BoolVar(&o.kills, "kills", true, "kill -9 random processes")
	flags.BoolVar(&o.keep, "keep", false, "keep the directory with the config and the log")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1e9) + 1
	}
	return o, nil
}

// run is the whole soak. ok is false if anything failed that has no excuse.
func run(ctx context.Context, o options) (ok bool, err error) {
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return false, err
	}
	if o.keep {
		fmt.Println("directory:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	s, err := newSoak(o, dir)
	if err != nil {
		return false, err
	}
	fmt.Printf("seed %d\n", o.seed)
	if err := s.baton.Start(); err != nil {
		return false, err
	}
	defer s.baton.Kill()
	s.warmUp()
	before := measure(s.baton)
	s.startLoads()
	if o.reloads > 0 {
		s.reloadMany(ctx, o.reloads)
	} else {
		s.actAll(ctx)
	}
	s.stopLoads()
	s.asAtFirst()
	s.await("rest at the end", s.baton.Settled)
	after := measure(s.baton)
	s.end()
	return s.report(before, after), nil
}
