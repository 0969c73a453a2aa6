package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"baton/scripts/load"
)

const (
	tableReloads = 30
	tableSpan    = 17 * time.Second
)

// contestant is a line of the table: how its server is started, and who its clients are.
type contestant struct {
	name    string
	start   func() (*server, error)
	clients string
	path    string // of POSTs whose body comes back
}

// fixed is a mix that any server can answer; echoed is the usual one, whose POSTs come back.
const (
	fixed  = "new=4,reader=16,poster=16"
	echoed = "new=4,reader=16,writer=16"
)

// compareLosses counts what reloads cost clients.
func compareLosses(o options) error {
	sides, stop, err := contestants(o)
	if err != nil {
		return err
	}
	defer stop()
	w := table("32 keep-alive + 4 short-lived clients", "reloads", "within", "requests", "lost",
		"of them on new connections", "keep-alive connections cut", "of at most", "p99", "longest")
	for _, side := range sides {
		if err := side.run(w); err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
	}
	w.Flush()
	fmt.Println("Lost: refused, reset, no answer, short, wrong, 5xx, late; nothing is sent twice, but before each " +
		"request a client looks whether\n" +
		"its connection was closed while it waited, as most do; without that look nearly each cut is a lost request. " +
		"Cut: connections that were opened,\n" +
		"less one a client. Half of the keep-alive clients GET, half POST 1 B to 64 KB; all wait 0-20 ms between two " +
		"requests. The servers answer a\n" +
		"POST with what they answer a GET with, but baton with the body, and HAProxy passes all to a bare net/http " +
		"server; \"echo\": the body comes back and is compared.")
	return nil
}

// contestants are those that are installed.
func contestants(o options) (sides []contestant, stop func(), err error) {
	var behind *server
	stop = func() {
		if behind != nil {
			behind.stop()
		}
	}
	if o.nginx == "" {
		skipped("nginx", "nginx", "nginx-light")
	} else {
		sides = append(sides, contestant{"nginx", func() (*server, error) { return startNginx(o, 1024) }, fixed, ""})
	}
	if o.haproxy == "" {
		skipped("HAProxy", "HAProxy", "haproxy")
	} else {
		if behind, err = startBare(o); err != nil {
			return nil, stop, err
		}
		sides = append(sides, contestant{
			"HAProxy (master-worker)",
			func() (*server, error) { return startHAProxy(o, behind) }, fixed, "",
		})
	}
	if o.caddy == "" {
		skipped("Caddy", "Caddy", "caddy")
	} else {
		sides = append(sides, contestant{"Caddy", func() (*server, error) { return startCaddy(o) }, fixed, ""})
	}
	echo := batonSite{routes: "[[route]]\npath = \"/echo\"\necho = true\n"}
	baton := func() (*server, error) { return startBaton(o, echo) }
	return append(sides, contestant{"baton", baton, fixed, ""}, contestant{"baton, echo", baton, echoed, "/echo"}),
		stop, nil
}

// run has the clients talk to the server while it reloads, and writes a line.
func (c contestant) run(w io.Writer) error {
	classes, err := load.ParseClasses(c.clients)
	if err != nil {
		return err
	}
	s, err := c.start()
	if err != nil {
		return err
	}
	defer s.stop()
	run := load.Start(context.Background(),
		load.Config{Target: s.address, Classes: classes, EchoPath: c.path, Look: true})
	start := time.Now()
	done, err := reloadMany(s)
	took := time.Since(start)
	report := run.Stop()
	if err != nil {
		return err
	}
	if s.name == "baton" && report.Failed() > 0 {
		fmt.Fprint(os.Stderr, report)
	}
	var lostFresh, cut, kept int64
	for _, class := range report.Classes {
		if class.Class == "new" {
			lostFresh = class.Failed()
			continue
		}
		cut += class.Connections - int64(class.Clients)
		kept += int64(class.Clients)
	}
	_, err = fmt.Fprintf(w, "%s\t%d\t%.1f s\t%d\t%d\t%d\t%d\t%d\t%.1f ms\t%.1f ms\n", c.name, done, took.Seconds(),
		report.Total.Requests, report.Failed(), lostFresh, cut, kept*int64(done), millis(report.Total.Latency.P99),
		millis(report.Total.Latency.Max))
	return err
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reloadMany reloads at even times, and returns how many of the reloads brought new workers; a server without workers
// has said itself that it has reloaded.
func reloadMany(s *server) (done int, err error) {
	seen := map[string]bool{}
	fresh := func() (found bool) {
		if s.isWorker == nil {
			return true
		}
		for pid := range s.workers() {
			found = found || !seen[pid]
			seen[pid] = true
		}
		return found
	}
	fresh()
	tick := time.NewTicker(tableSpan / tableReloads)
	defer tick.Stop()
	for range tableReloads {
		<-tick.C
		if err := s.reload(); err != nil {
			return done, err
		}
		time.Sleep(tableSpan / tableReloads / 2)
		if fresh() {
			done++
		}
	}
	return done, nil
}
