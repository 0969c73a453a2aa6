// Command shapes walks at random over configurations of a baton and over what may happen to it, where nobody has
// thought to walk: any combination of listeners, of their protocols and of everything else that a config says, while
// clients of every class are served. It knows no mechanism, only promises: each request is answered or its connection
// closed, never silence; which connections may be closed is what the tables of master/README.md say; what `baton check`
// likes starts and reloads, and nothing else does; every exit code and the status are true; after a stop nothing is
// left.
//
// A walk is some legs of steps, each on a baton of its own. The steps are a function of the seed. When a leg fails,
// steps are left out for as long as it still fails, and the shortest sequence is printed; -replay takes it again.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"baton/scripts/internal/harness"
	"baton/scripts/load"
)

// options are the flags.
type options struct {
	bin      string
	duration time.Duration
	seed     uint64
	leg      int
	steps    int
	tries    int
	replay   string
	keep     bool
	race     bool
	verbose  bool
}

func main() { harness.Main(parseFlags, run) }

func parseFlags(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("shapes", flag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "", "the `directory` for the programs (set by the script)")
	flags.DurationVar(&o.duration, "d", 5*time.Minute, "how long; a leg that has begun is walked to its end")
	flags.Uint64Var(&o.seed, "seed", 0, "for the same steps again; 0: others each time")
	flags.IntVar(&o.leg, "leg", 0, "the first leg")
	flags.IntVar(&o.steps, "steps", 25, "of a leg")
	flags.IntVar(&o.tries, "tries", 60, "how often parts of a leg that failed may be walked, for a shorter one; 0: "+
		"never")
	flags.StringVar(&o.replay, "replay", "", "walk the steps of this `file` and nothing else; - is standard input")
	flags.BoolVar(&o.keep, "keep", false, "keep the directories")
	flags.BoolVar(&o.race, "race", false, "programs with the race detector, which needs a C compiler")
	flags.BoolVar(&o.verbose, "v", false, "print each step")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.seed == 0 {
		o.seed = rand.Uint64N(1e9) + 1
	}
	return o, nil
}

// walker makes walks.
type walker struct {
	options
	sums  sums
	taken int
	soft  map[string]int
}

// run is everything. ok is false if something was found.
func run(ctx context.Context, o options) (ok bool, err error) {
	if err := build(o.bin, o.race); err != nil {
		return false, err
	}
	w := &walker{options: o, soft: map[string]int{}}
	defer w.report(time.Now())
	if o.replay != "" {
		steps, err := readSteps(o.replay)
		if err != nil {
			return false, err
		}
		return w.leg(ctx, steps, "replay"), nil
	}
	fmt.Printf("seed %d\n", o.seed)
	end := time.Now().Add(o.duration)
	for leg := o.leg; time.Now().Before(end) && ctx.Err() == nil; leg++ {
		steps := generate(o.seed, leg, o.steps, thisMachine())
		if !w.leg(ctx, steps, fmt.Sprintf("-seed %d -leg %d", o.seed, leg)) {
			return false, nil
		}
	}
	return true, nil
}

// leg walks some steps. If something is found, it looks for the shortest part of them that still finds it.
func (w *walker) leg(ctx context.Context, steps []step, what string) bool {
	found, done, tail := w.walk(ctx, steps, w.verbose)
	w.taken += done
	if found == nil {
		return true
	}
	fmt.Printf("\nFOUND %s\nby %s, in step %d\n\nthe end of the log:\n%s\n\n", found, what, done, tail)
	steps = steps[:min(done, len(steps))]
	if w.tries > 0 && ctx.Err() == nil {
		s := &shrinker{tries: w.tries, again: 3, fails: func(part []step) bool {
			again, _, _ := w.walk(ctx, part, false)
			same := again != nil && again.rule == found.rule
			fmt.Printf("%d steps: %v\n", len(part), again)
			return same || ctx.Err() != nil
		}}
		steps = s.shrink(steps)
	}
	fmt.Printf("\nthe shortest sequence that was found to fail, for -replay:\n# %s: %s\n", what, found.rule)
	fmt.Print(format(steps))
	return false
}

// walk walks in a directory of its own.
func (w *walker) walk(ctx context.Context, steps []step, verbose bool) (found *finding, done int, tail string) {
	dir, err := os.MkdirTemp("", "shapes")
	if err != nil {
		return &finding{"walk", err.Error()}, 0, ""
	}
	if w.keep {
		fmt.Println("directory:", dir)
	} else {
		defer os.RemoveAll(dir)
	}
	err = os.Chmod(dir, 0o755)
	if err != nil {
		return &finding{"walk", err.Error()}, 0, ""
	}
	one, err := newWalk(w.bin, dir, w.seed)
	if err != nil {
		return &finding{"walk", err.Error()}, 0, ""
	}
	one.verbose = verbose
	found = one.run(ctx, steps)
	w.sums.merge(&one.sums)
	for _, text := range one.soft {
		w.soft[text]++
	}
	return found, one.done, one.tail(40)
}

func readSteps(name string) ([]step, error) {
	if name == "-" {
		return parse(os.Stdin)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f)
}

// sums are what the clients of all walks met.
type sums struct {
	requests, connections int64
	excused               map[string]int64
}

func (s *sums) add(r *load.Report) {
	s.merge(&sums{r.Total.Requests, r.Total.Connections, r.Total.Excused})
}

func (s *sums) merge(o *sums) {
	s.requests += o.requests
	s.connections += o.connections
	if s.excused == nil {
		s.excused = map[string]int64{}
	}
	for why, n := range o.excused {
		s.excused[why] += n
	}
}

func (w *walker) report(begun time.Time) {
	took := time.Since(begun).Round(time.Second)
	fmt.Printf("\n%v, %d steps, %d requests on %d connections\n", took, w.taken, w.sums.requests, w.sums.connections)
	for _, why := range slices.Sorted(maps.Keys(w.sums.excused)) {
		fmt.Printf("  not counted as failed: %d %s\n", w.sums.excused[why], why)
	}
	if n := len(w.soft); n > 0 {
		fmt.Printf("  uneven %d times, as: %s\n", n, strings.Join(slices.Sorted(maps.Keys(w.soft))[:min(n, 3)], "; "))
	}
}
