package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"baton/scripts/load"
)

const (
	idleAskers = 4                    // goroutines that send a request now and then
	idlePause  = 4 * time.Millisecond // of each of them
	idleStride = 37                   // so that the requests meet connections of all ages

	filesOfOurOwn = 200
)

// compareIdle measures what a reload does to very many connections that are mostly idle.
func compareIdle(o options) error {
	allowed, err := openFilesAllowed()
	if err != nil {
		return err
	}
	if most := allowed/2 - filesOfOurOwn; o.idle > most {
		fmt.Printf("SCALED DOWN: %d idle connections instead of %d; no more than %d files may be open (ulimit -Hn), "+
			"and there are two sides\n", most, o.idle, allowed)
		o.idle = most
	}
	baton, err := startBaton(o, batonSite{})
	if err != nil {
		return err
	}
	defer baton.stop()
	sides := []*idleSide{{s: baton}}
	if o.nginx == "" {
		skipped("nginx beside it", "nginx", "nginx-light")
	} else {
		nginx, err := startNginx(o, o.idle+100)
		if err != nil {
			return err
		}
		defer nginx.stop()
		sides = append(sides, &idleSide{s: nginx})
	}
	for _, side := range sides {
		side.conns = make([]*idleConn, o.idle)
		defer side.close()
	}
	for range o.fewer(3) {
		for _, side := range sides {
			if err := side.round(); err != nil {
				return fmt.Errorf("%s: %w", side.s.name, err)
			}
		}
	}
	printIdle(o, sides)
	return nil
}

func printIdle(o options, sides []*idleSide) {
	w := table("", fmt.Sprintf("kept of %d", o.idle), "old workers gone after", "(least … most)",
		"longest request of the moment", "(least … most)",
		"longest before", "requests of the moment", "failed")
	for _, side := range sides {
		var kept []float64
		var sent, failed int
		for _, r := range side.rounds {
			kept = append(kept, float64(r.kept))
			sent += r.moment.sent
			failed += r.moment.failed
		}
		fmt.Fprintf(w, "%s\t%.0f (least: %.0f)\t%s ms\t%s\t%s ms\t%s\t%s ms\t%d\t%d\n", side.s.name, median(kept),
			slices.Min(kept),
			number(median(side.gone())), span(side.gone()), number(median(side.longest())), span(side.longest()),
			number(median(side.before())), sent, failed)
	}
	w.Flush()
	fmt.Printf("%d rounds with one reload each, medians; %d requests a second on connections in turn. baton's "+
		"connections are the same ones\n"+
		"from the first round to the last. The moment is from the signal until 100 ms after the last old worker has "+
		"gone (seen in /proc).\n"+
		"A connection that was closed meanwhile is not used any more: failed is what was sent, and not answered. "+
		"Kept is\n"+
		"what answers a request afterwards. The goals: all kept, moved within 150 ms, no request longer than 100 ms.\n",
		len(sides[0].rounds), idleAskers*int(time.Second/idlePause))
}

// idleSide is a server with many idle connections.
type idleSide struct {
	s      *server
	conns  []*idleConn // nil: closed
	rounds []idleRound
}

type idleRound struct {
	kept           int
	gone           time.Duration
	before, moment askings
}

// askings are requests of which each waits for the one before.
type askings struct {
	sent, failed int
	longest      time.Duration
}

func (a *askings) add(b askings) {
	a.sent += b.sent
	a.failed += b.failed
	a.longest = max(a.longest, b.longest)
}

func (side *idleSide) gone() []float64 {
	return side.millis(func(r *idleRound) time.Duration { return r.gone })
}

func (side *idleSide) longest() []float64 {
	return side.millis(func(r *idleRound) time.Duration { return r.moment.longest })
}

func (side *idleSide) before() []float64 {
	return side.millis(func(r *idleRound) time.Duration { return r.before.longest })
}

func (side *idleSide) millis(of func(*idleRound) time.Duration) []float64 {
	var all []float64
	for i := range side.rounds {
		all = append(all, float64(of(&side.rounds[i]))/float64(time.Millisecond))
	}
	return all
}

func (side *idleSide) close() {
	for _, c := range side.conns {
		if c != nil {
			c.Close()
		}
	}
}

// round opens what is closed, reloads, and counts what is left.
func (side *idleSide) round() error {
	if err := side.connect(); err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	var r idleRound
	r.before, _ = side.during(func() error { time.Sleep(300 * time.Millisecond); return nil })
	var err error
	r.moment, err = side.during(func() error {
		r.gone, err = side.reload()
		time.Sleep(100 * time.Millisecond)
		return err
	})
	if err != nil {
		return err
	}
	r.kept = side.count()
	side.rounds = append(side.rounds, r)
	return nil
}

// connect opens the connections that are not open. Each has had an answer then.
func (side *idleSide) connect() error {
	for i, c := range side.conns {
		if c != nil {
			continue
		}
		nc, err := net.Dial("tcp", side.s.address)
		if err != nil {
			return err
		}
		c = &idleConn{Conn: nc}
		side.conns[i] = c
		if _, err := c.ask(); err != nil {
			return err
		}
	}
	return nil
}

// reload returns how long it took until none of the old workers was left.
func (side *idleSide) reload() (time.Duration, error) {
	old := side.s.workers()
	if len(old) == 0 {
		return 0, errors.New("no worker found")
	}
	start := time.Now()
	if err := side.s.reload(); err != nil {
		return 0, err
	}
	for time.Since(start) < 30*time.Second {
		for pid := range old {
			if _, err := os.Stat("/proc/" + pid); err != nil {
				delete(old, pid)
			}
		}
		if len(old) == 0 {
			return time.Since(start), nil
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("%d old workers are left after 30 s", len(old))
}

// during sends requests now and then while f runs. A connection that fails is closed, so it fails once.
func (side *idleSide) during(f func() error) (askings, error) {
	over := make(chan struct{})
	var all [idleAskers]askings
	var wg sync.WaitGroup
	for g := range all {
		wg.Go(func() { all[g] = side.askNowAndThen(g, over) })
	}
	err := f()
	close(over)
	wg.Wait()
	var sum askings
	for _, a := range all {
		sum.add(a)
	}
	return sum, err
}

// askNowAndThen asks on every fourth connection, beginning with the g-th: no two goroutines share one.
func (side *idleSide) askNowAndThen(g int, over <-chan struct{}) (a askings) {
	ticker := time.NewTicker(idlePause)
	defer ticker.Stop()
	share := len(side.conns) / idleAskers
	for k := 0; ; k = (k + idleStride) % share {
		select {
		case <-over:
			return a
		case <-ticker.C:
		}
		i := k*idleAskers + g
		if side.conns[i] == nil || load.Closed(side.conns[i].Conn) {
			continue
		}
		took, err := side.conns[i].ask()
		a.sent++
		a.longest = max(a.longest, took)
		if err != nil {
			a.failed++
			side.drop(i)
		}
	}
}

// count asks on each connection and returns how many answer.
func (side *idleSide) count() (kept int) {
	for i, c := range side.conns {
		if c == nil {
			continue
		}
		if _, err := c.ask(); err != nil {
			side.drop(i)
			continue
		}
		kept++
	}
	return kept
}

func (side *idleSide) drop(i int) {
	side.conns[i].Close()
	side.conns[i] = nil
}

// idleConn is a kept connection without a buffer of its own.
type idleConn struct{ net.Conn }

// ask sends a request and reads its answer.
func (c *idleConn) ask() (time.Duration, error) {
	start := time.Now()
	_ = c.SetDeadline(start.Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return time.Since(start), err
	}
	var buf [1024]byte
	n := 0
	for !isAnswer(buf[:n]) {
		m, err := c.Read(buf[n:])
		if err != nil {
			return time.Since(start), err
		}
		n += m
	}
	return time.Since(start), nil
}

// isAnswer reports whether b is an answer from its status to its end.
func isAnswer(b []byte) bool {
	if !bytes.HasPrefix(b, []byte("HTTP/1.1 200 ")) {
		return false
	}
	head, body, whole := bytes.Cut(b, []byte("\r\n\r\n"))
	_, length, found := bytes.Cut(head, []byte("\r\nContent-Length: "))
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	n, err := strconv.Atoi(string(length))
	return whole && found && err == nil && len(body) >= n
}
