package promises_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"baton/master/mastertest"
)

// TestConnectionsStaySpread: kept connections are spread over the workers after any number of reloads and resizes, be
// they many or a handful, idle or busy, on one socket or on one for each slot; and they are the same connections.
func TestConnectionsStaySpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		workers, clients int
		busy             bool
		socket           string
		most             int // in one worker in the end
	}{
		{"idle", 4, 64, false, "", 24},
		{"busy", 4, 64, true, "", 24},
		{"a handful", 3, 6, false, "", 3},
		{"a handful that is busy", 3, 6, true, "", 3},
		{"reuse_port", 4, 64, true, "reuse_port = true", 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			exclusive(t)
			s := unwatchedSite(t)
			s.workers, s.socket = c.workers, c.socket
			s.routes = "[[route]]\npath = \"/short\"\nrespond = \"short\"\ndelay = \"20ms\"\n"
			b := start(t, s)
			conns := connect(t, s.listen[0], c.clients)
			if got := askAll(conns); got[served] != c.clients {
				t.Fatalf("before: %v", got)
			}
			stop := func() {}
			if c.busy {
				stop = askAgainAndAgain(t, conns)
			}
			for range 10 {
				b.Reload()
			}
			resize(t, b, c.workers-1)
			resize(t, b, c.workers)
			b.Reload()
			b.AwaitSettled()
			stop()
			st := b.Status()
			all := spread(st)
			if slices.Max(all) > int64(c.most) || len(all) != c.workers {
				t.Errorf("%v connections in the workers, want at most %d in one", all, c.most)
			}
			if got := askAll(conns); got[served] != c.clients || st.CutConnections != 0 {
				t.Errorf("%v, %+v", got, st)
			}
			t.Log(all)
		})
	}
}

// TestNewWorkersGetTheirShare: after a resize without a reload as well, of HTTP and of a protocol of one's own.
func TestNewWorkersGetTheirShare(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"idle", "busy", "echo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exclusive(t)
			s := unwatchedSite(t)
			s.workers = 1
			s.routes = "[[route]]\npath = \"/short\"\nrespond = \"short\"\ndelay = \"20ms\"\n"
			if name == "echo" {
				s.socket = "process = \"echo\""
			}
			b := start(t, s)
			conns := connect(t, s.listen[0], 64)
			asks := askOnce
			if name == "echo" {
				asks = echoOnce
			}
			for _, c := range conns {
				if got := asks(c); got != served {
					t.Fatalf("before: %v", got)
				}
			}
			stop := func() {}
			if name == "busy" {
				stop = askAgainAndAgain(t, conns)
			}
			resize(t, b, 4)
			b.AwaitStatus("the shares", func(st mastertest.Status) bool {
				all := spread(st)
				return len(all) == 4 && slices.Max(all) <= 24 && slices.Min(all) > 0
			})
			stop()
			for _, c := range conns {
				if got := asks(c); got != served {
					t.Errorf("afterwards: %v", got)
				}
			}
			t.Log(spread(b.Status()))
		})
	}
}

// echoOnce says something and wants it back.
func echoOnce(c net.Conn) ends {
	_ = c.SetDeadline(time.Now().Add(mastertest.Timeout / 3))
	got := make([]byte, 2)
	if _, err := io.WriteString(c, "a\n"); err != nil {
		return lost
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "a\n" {
		return hangs
	}
	return served
}

// spread is how many connections each worker that serves has.
func spread(st mastertest.Status) (all []int64) {
	for _, w := range st.Workers {
		if w.State == "serving" {
			all = append(all, w.Connections)
		}
	}
	return all
}

// askAgainAndAgain has every client send one request after the other, until stop is called.
func askAgainAndAgain(t *testing.T, conns []net.Conn) (stop func()) {
	over := make(chan struct{})
	var all sync.WaitGroup
	for _, c := range conns {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if _, err := io.WriteString(c, "GET /short HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Error(err)
					return
				}
				if got := readAnswer(c); got != served {
					t.Error(fmt.Sprint("a busy connection: ", got))
					return
				}
			}
		})
	}
	return func() {
		close(over)
		all.Wait()
	}
}
