package promises_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"baton/master/mastertest"
)

// TestTCPConnectionsLiveThroughReloads: those of a protocol of one's own, idle ones and busy ones.
func TestTCPConnectionsLiveThroughReloads(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	address := mastertest.FreePort(t)
	s.routes = echoAt(address, "tcp")
	b := start(t, s)
	idle := connect(t, address, 100)
	for _, c := range idle {
		sayEcho(t, c, "before")
	}
	stop, ended := make(chan struct{}), make(chan error)
	busy := connect(t, address, 8)
	for _, c := range busy {
		go func() { ended <- talk(c, stop) }()
	}
	pace(t, 10, 50*time.Millisecond, func(int) { b.Reload() })
	b.AwaitSettled() // no generation is kept by a connection: they all have moved
	close(stop)
	for range busy {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, c := range idle {
		sayEcho(t, c, "after")
	}
	st := b.Status()
	open := int64(0)
	for _, w := range st.Workers {
		open += w.Connections
	}
	if open != 108 || st.CutConnections+st.CutRequests != 0 {
		t.Errorf("%d connections; status %+v", open, st)
	}
}

// sayEcho says something and wants it back.
func sayEcho(tb testing.TB, c net.Conn, text string) {
	tb.Helper()
	_ = c.SetDeadline(time.Now().Add(mastertest.Timeout))
	b := make([]byte, len(text))
	_, err := io.WriteString(c, text)
	if err == nil {
		_, err = io.ReadFull(c, b)
	}
	if err != nil || string(b) != text {
		tb.Errorf("said %q: %q, %v", text, b, err)
	}
}

// talk sends numbered lines, four of them ahead of their answers, until stop is closed, and wants all of them back in
// their order.
func talk(c net.Conn, stop <-chan struct{}) error {
	_ = c.SetDeadline(time.Now().Add(2 * mastertest.Timeout))
	r := bufio.NewReader(c)
	for sent, got := 0, 0; ; got++ {
		for ; sent < got+4 && !isClosed(stop); sent++ {
			if _, err := fmt.Fprintf(c, "line %d\n", sent); err != nil {
				return err
			}
		}
		if got == sent {
			return nil
		}
		line, err := r.ReadString('\n')
		if want := fmt.Sprintf("line %d\n", got); err != nil || line != want {
			return fmt.Errorf("%q, %w, want %q", line, err, want)
		}
	}
}

// TestTCPWithoutHandover: with handover = false a connection stays in its generation, and is served there until its
// client closes.
func TestTCPWithoutHandover(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	address := mastertest.FreePort(t)
	s.routes = echoAt(address, "tcp", "handover = false")
	b := start(t, s)
	c := connect(t, address, 1)[0]
	sayEcho(t, c, "before")
	b.Reload()
	st := b.AwaitStatus("one old worker", func(st mastertest.Status) bool { return len(st.PIDs("draining")) == 1 })
	sayEcho(t, c, "after")
	if n := len(st.Workers); n != 3 {
		t.Errorf("%d workers", n)
	}
	c.Close()
	b.AwaitSettled()
}

// TestTCPStop: connections that are idle do not hold up a stop.
func TestTCPStop(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(`stop_timeout = "60s"`)
	address := mastertest.FreePort(t)
	s.routes = echoAt(address, "tcp")
	b := start(t, s)
	c := connect(t, address, 1)[0]
	sayEcho(t, c, "hello")
	b.Stop()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
