package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"
)

// bursts are connections that are opened one right after the other.
var bursts = []struct{ workers, conns int }{{2, 8}, {8, 64}}

const (
	burstsOfEach  = 10
	burstRest     = 150 * time.Millisecond // between two bursts
	spreadWorkers = 4
	spreadConns   = 64
	spreadReloads = 10
)

// compareSpread measures how many connections are in the worker that has most of them.
func compareSpread(o options) error {
	w := table("", "most in one worker, baton", "(least … most)", "nginx", "(least … most)", "even would be")
	for _, b := range bursts {
		most, err := spreadOf(o, b.workers, func(s *server) ([]float64, error) { return burstsAt(s, b.conns) })
		if err != nil {
			return err
		}
		spreadLine(w, fmt.Sprintf("%d new connections at once, %d workers", b.conns, b.workers), most,
			b.conns/b.workers)
	}
	most, err := spreadOf(o, spreadWorkers, keptSpread)
	if err != nil {
		return err
	}
	spreadLine(w, fmt.Sprintf("%d kept ones, %d workers, after each of %d reloads", spreadConns, spreadWorkers,
		spreadReloads), most, spreadConns/spreadWorkers)
	w.Flush()
	fmt.Printf("%d bursts of each; a client of nginx connects again at once when a reload has closed its connection.\n",
		burstsOfEach)
	return nil
}

func spreadLine(w io.Writer, what string, most [][]float64, even int) {
	fmt.Fprint(w, what)
	for _, m := range most {
		if m == nil {
			fmt.Fprint(w, "\t-\t-")
			continue
		}
		fmt.Fprintf(w, "\t%.0f\t%s", median(m), span(m))
	}
	fmt.Fprintf(w, "\t%d\n", even)
}

// spreadOf measures baton, and nginx if it is installed.
func spreadOf(o options, workers int, measure func(*server) ([]float64, error)) (most [][]float64, err error) {
	starts := []func() (*server, error){
		func() (*server, error) { return startBaton(o, batonSite{workers: workers}) },
		func() (*server, error) { return startNginxOf(o, workers, 1024) },
	}
	for i, start := range starts {
		if i == 1 && o.nginx == "" {
			return append(most, nil), nil
		}
		s, err := start()
		if err != nil {
			return nil, err
		}
		m, err := measure(s)
		s.stop()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		most = append(most, m)
	}
	return most, nil
}

func burstsAt(s *server, conns int) (most []float64, err error) {
	for range burstsOfEach {
		time.Sleep(burstRest)
		all := make([]*keptConn, conns)
		for i := range all {
			if all[i], err = openKept(s); err != nil {
				return nil, err
			}
		}
		m, err := mostInOne(all)
		for _, c := range all {
			_ = c.Close()
		}
		if err != nil {
			return nil, err
		}
		most = append(most, m)
	}
	return most, nil
}

// keptSpread keeps connections over reloads.
func keptSpread(s *server) (most []float64, err error) {
	all := make([]*keptConn, spreadConns)
	for i := range all {
		if all[i], err = openKept(s); err != nil {
			return nil, err
		}
		defer func() { _ = all[i].Close() }()
	}
	if _, err := mostInOne(all); err != nil {
		return nil, err
	}
	for range spreadReloads {
		if err := reloadAndWait(s); err != nil {
			return nil, err
		}
		m, err := mostInOne(all)
		if err != nil {
			return nil, err
		}
		most = append(most, m)
	}
	return most, nil
}

// reloadAndWait returns when all workers are others.
func reloadAndWait(s *server) error {
	before := s.workers()
	if err := s.reload(); err != nil {
		return err
	}
	for start := time.Now(); time.Since(start) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
		now := s.workers()
		maps.DeleteFunc(before, func(pid string, _ bool) bool { return !now[pid] })
		if len(before) == 0 {
			return nil
		}
	}
	return errors.New("old workers do not go")
}

// mostInOne is how many connections the worker has that has most of them.
func mostInOne(all []*keptConn) (float64, error) {
	for _, c := range all { // all at once, as after the pause that a reload is
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	counts := map[string]int{}
	for _, c := range all {
		who, err := c.answer()
		if err != nil { // it was closed meanwhile
			if who, err = c.again(); err != nil {
				return 0, err
			}
		}
		counts[who]++
	}
	return float64(slices.Max(slices.Collect(maps.Values(counts)))), nil
}

// keptConn is a keep-alive connection to a server.
type keptConn struct {
	net.Conn
	s *server
	r *bufio.Reader
}

func openKept(s *server) (*keptConn, error) {
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	return &keptConn{Conn: c, s: s, r: bufio.NewReader(c)}, c.SetDeadline(time.Now().Add(time.Minute))
}

// answer returns who has answered.
func (c *keptConn) answer() (who string, err error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return c.s.who(string(body)), err
}

// again asks on a new connection.
func (c *keptConn) again() (who string, err error) {
	_ = c.Close()
	next, err := openKept(c.s)
	if err != nil {
		return "", err
	}
	*c = *next
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return "", err
	}
	return c.answer()
}
