package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// errLeft are processes that should be gone.
type errLeft []int

func (e errLeft) Error() string { return fmt.Sprint("processes left: ", []int(e)) }

// warmUp makes baton as big as it is after a few reloads.
func (s *soak) warmUp() {
	for range 10 {
		s.mustReload()
	}
	s.await("rest at the start", s.baton.Settled)
}

// asAtFirst undoes what makes baton bigger or smaller, so that it can be compared with what it was.
func (s *soak) asAtFirst() {
	s.site.workers, s.site.extra = 2, ""
	s.edit(rand.New(rand.NewPCG(s.seed, 3)))
	s.resizeTo(2)
	for range 2 {
		s.mustReload()
	}
}

// actAll has the two actors act until the time is over: one deploys, the other kills whatever it meets. Each has
// chances of its own, so that a seed gives both the same events in the same order again, whatever the timing.
func (s *soak) actAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.duration)
	defer cancel()
	var actors sync.WaitGroup
	actors.Go(func() { s.act(ctx, rand.New(rand.NewPCG(s.seed, 1)), deploys, 400*time.Millisecond) })
	if s.options.kills {
		actors.Go(func() { s.act(ctx, rand.New(rand.NewPCG(s.seed, 2)), blows, 3*time.Second) })
	}
	actors.Go(func() { s.tell(ctx) })
	actors.Wait()
}

// act does one event after the other, with pauses up to a limit.
func (s *soak) act(ctx context.Context, r *rand.Rand, events []event, pause time.Duration) {
	sum := 0
	for _, e := range events {
		sum += e.weight
	}
	for ctx.Err() == nil {
		n := r.IntN(sum)
		for _, e := range events {
			if n -= e.weight; n < 0 {
				s.count(e.name)
				e.do(s, r)
				break
			}
		}
		select {
		case <-time.After(time.Duration(r.Int64N(int64(pause)))):
		case <-ctx.Done():
		}
	}
}

// tell says every minute that it goes on.
func (s *soak) tell(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	start := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			st, err := s.baton.Status()
			fmt.Printf("%v: generation %d, %d workers, %d crashes, %v\n", time.Since(start).Round(time.Second),
				st.Generation, len(st.Workers), st.Crashes, err)
		}
	}
}

// reloadMany reloads without a pause, and prints ten times what supervisor and master have.
func (s *soak) reloadMany(ctx context.Context, n int) {
	for i := range n {
		if ctx.Err() != nil {
			return
		}
		s.count("baton reload")
		s.mustReload()
		if every := max(1, n/10); (i+1)%every == 0 {
			s.await("rest", s.baton.Settled)
			fmt.Printf("after %5d reloads: %v\n", i+1, measure(s.baton))
		}
	}
}

func writeInPlace(path string, content []byte) error { return os.WriteFile(path, content, 0o600) }
