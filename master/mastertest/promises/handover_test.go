package promises_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/status"
	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestConnectionsLiveThroughEverything is P10: reloads, other binaries, other sizes, a killed master; every client, of
// whatever habits, has the TCP connection in the end that it began with.
func TestConnectionsLiveThroughEverything(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b := start(t, s)
	b.Upgrade(0) // now, so that nothing is built while the clients wait
	classes, err := load.ParseClasses("reader=8,writer=8,idle=8,pipelined=4,dribble=4,continue=4")
	if err != nil {
		t.Fatal(err)
	}
	silent, waiting := connect(t, s.listen[0], 50), connect(t, s.listen[0], 50)
	for _, c := range waiting {
		ask(t, c)
		if err := answered(c); err != nil {
			t.Fatal(err)
		}
	}
	clients := putLoad(t, s.listen[0], classes)
	generation := 1
	for i := range reloads() {
		switch i % 5 {
		case 1:
			b.Upgrade(i)
		case 3:
			resize(t, b, 1+i%4)
		}
		b.Reload()
		generation++
		sleep(50 * time.Millisecond)
		if t.Failed() {
			break
		}
	}
	st := b.AwaitSettled() // no generation is kept by a connection: they have all moved
	if st.Generation != generation || st.CutConnections+st.CutRequests != 0 {
		t.Errorf("%+v", st)
	}
	for i, c := range slices.Concat(silent, waiting) {
		ask(t, c)
		if err := answered(c); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	report := wantNoLoss(t, clients)
	for _, c := range report.Classes {
		if c.Connections != int64(c.Clients) {
			t.Errorf("%d clients of class %s have used %d connections", c.Clients, c.Class, c.Connections)
		}
	}
	t.Logf("%d requests", report.Total.Requests)
}

// ends is how a client's connection ends when it asks once more.
type ends int

const (
	served ends = iota
	last        // served, and Connection: close
	lost
	hangs
)

// askOnce sends a request and reads its answer.
func askOnce(c net.Conn) ends {
	_ = c.SetDeadline(time.Now().Add(mastertest.Timeout / 3))
	_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if err != nil {
		return lost
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	return endOf(resp, err)
}

// endOf is what an answer means for its connection.
func endOf(resp *http.Response, err error) ends {
	if err == nil {
		_, err = io.ReadAll(resp.Body)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return hangs
	case err != nil || resp.StatusCode != 200:
		return lost
	case resp.Close:
		return last
	}
	return served
}

// askAll has all clients ask, some at a time, and counts how that ends.
func askAll(conns []net.Conn) map[ends]int {
	counts := map[ends]int{}
	for chunk := range slices.Chunk(conns, 50) {
		all := make(chan ends, len(chunk))
		for _, c := range chunk {
			go func() { all <- askOnce(c) }()
		}
		for range chunk {
			counts[<-all]++
		}
	}
	return counts
}

// open are the connections that the workers of a state have, as status shows it.
func open(st mastertest.Status, state string) (n int64) {
	for _, w := range st.Workers {
		if w.State == state {
			n += w.Connections
		}
	}
	return n
}

// TestWithoutHandover: with handover = false a connection stays where it is, and is closed after one more answer.
func TestWithoutHandover(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	s.socket = "handover = false"
	b := start(t, s)
	conns := connect(t, s.listen[0], 40)
	if got := askAll(conns[:20]); got[served] != 20 {
		t.Errorf("%v", got)
	}
	clients := putLoad(t, s.listen[0], defaultLoad())
	b.Reload()
	b.AwaitStatus("the connections of the old generation",
		func(st mastertest.Status) bool { return open(st, "draining") >= 40 })
	if got := askAll(conns); got[last] != 40 {
		t.Errorf("%v, want Connection: close for each", got)
	}
	pace(t, 10, 50*time.Millisecond, func(int) { b.Reload() })
	report := wantNoLoss(t, clients)
	if st := b.AwaitSettled(); st.CutConnections+st.CutRequests != 0 {
		t.Errorf("%+v", st)
	}
	if n := report.Total.Connections; n <= int64(report.Total.Clients) {
		t.Errorf("%d connections: nobody was asked to come again", n)
	}
}

// TestReceiverShortOfDescriptors: four workers hold more connections than the one of the next generation may have
// files. It takes what it can, and the others stay, are served once more, and hold nobody up.
func TestReceiverShortOfDescriptors(t *testing.T) {
	t.Parallel()
	const n, limit = 200, 96
	s := unwatchedSite(t)
	s.workers = 4
	b := mastertest.Start(t, mastertest.Options{Config: s.String(), Shell: "ulimit -n 96; exec \"$BATON\" \"$@\""})
	conns := connect(t, s.listen[0], n)
	b.AwaitStatus("the connections", func(st mastertest.Status) bool { return open(st, "serving") == n })
	if got := askAll(conns[:n/2]); got[served] != n/2 {
		t.Errorf("before: %v", got)
	}
	s.workers = 1
	b.WriteConfig(s.String())
	b.Reload()
	b.AwaitStatus("the drain",
		func(st mastertest.Status) bool { return len(st.PIDs("serving")) == 1 && st.Handover.Kept > 0 })
	got := askAll(conns)
	if got[served]+got[last] != n || got[last] == 0 {
		t.Errorf("%v, want %d answers", got, n)
	}
	t.Logf("%d connections, one worker with %d files: %d stay open, %d are closed after an answer", n, limit,
		got[served], got[last])
	for _, c := range conns {
		c.Close()
	}
	if st := b.AwaitSettled(); st.Crashes != 0 || st.CutConnections != 0 {
		t.Errorf("%+v", st)
	}
	again := connect(t, s.listen[0], 20)
	if got := askAll(again); got[served] != 20 {
		t.Errorf("afterwards: %v", got)
	}
}

// TestReceiverKilled: a worker is killed while it takes over connections. What it has taken is lost with it. Everything
// else lives, and nobody waits for the dead.
func TestReceiverKilled(t *testing.T) {
	t.Parallel()
	exclusive(t)
	const n = 2000
	s := unwatchedSite(t)
	b := start(t, s)
	conns := connect(t, s.listen[0], n)
	b.AwaitStatus("the connections", func(st mastertest.Status) bool { return open(st, "serving") == n })
	if got := askAll(conns[:n/2]); got[served] != n/2 {
		t.Errorf("before: %v", got)
	}
	b.Signal(unix.SIGHUP)
	var dead status.Worker
	b.AwaitStatus("the first connections of the next generation", func(st mastertest.Status) bool {
		for _, w := range st.Workers {
			if w.Generation == 2 && w.Connections > 0 {
				dead = w
				b.Kill(w.PID)
				return true
			}
		}
		return false
	})
	begun := time.Now()
	got := askAll(conns)
	t.Logf("%d of %d connections lost with a worker that had said it has %d; the others answer in %v, %d of them for "+
		"the last time, because what the dead had not answered for does not move again",
		got[lost], n, dead.Connections, time.Since(begun), got[last])
	if got[hangs] != 0 || got[served]+got[last] == 0 || got[lost] == n {
		t.Errorf("%v", got)
	}
	if st := b.AwaitSettled(); st.Crashes != 1 {
		t.Errorf("%+v", st)
	}
}

// TestStopInHandover: a stop does not wait for those who might have taken connections.
func TestStopInHandover(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s)
	conns := connect(t, s.listen[0], 500)
	b.AwaitStatus("the connections", func(st mastertest.Status) bool { return open(st, "serving") == 500 })
	b.Signal(unix.SIGHUP)
	st := b.AwaitGeneration(2)
	for _, w := range st.Workers {
		if w.Generation == 2 {
			signal(t, w.PID, unix.SIGSTOP) // they take nothing more
		}
	}
	b.Signal(unix.SIGTERM)
	for _, w := range st.Workers {
		if w.Generation == 2 {
			signal(t, w.PID, unix.SIGCONT)
		}
	}
	wantExit(t, b, 0, shortTimeout)
	for _, c := range conns {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a connection is open, and nobody is there")
		}
	}
}
