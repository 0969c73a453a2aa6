package promises_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"baton/master/mastertest"
)

// listeners are the addresses on which somebody listens on a port, as /proc/net has them, with how many sockets.
func listeners(tb testing.TB, port string) map[string]int {
	tb.Helper()
	n, err := strconv.Atoi(port)
	if err != nil {
		tb.Fatal(err)
	}
	found := map[string]int{}
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(file)
		if os.IsNotExist(err) {
			continue // no IPv6
		}
		if err != nil {
			tb.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "0A" { // TCP_LISTEN
				continue
			}
			switch host, p, _ := strings.Cut(f[1], ":"); {
			case p != fmt.Sprintf("%04X", n):
			case strings.Trim(host, "0") == "":
				found["*"]++
			default:
				found[host]++
			}
		}
	}
	return found
}

const loopback = "0100007F"

func awaitListeners(tb testing.TB, port string, want map[string]int) {
	tb.Helper()
	var got map[string]int
	mastertest.Await(tb, func() string { return fmt.Sprintf("listeners %v, there are %v", want, got) }, func() bool {
		got = listeners(tb, port)
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

// TestAddressChangesItsShape: the same port with another address, or with a socket for each slot, or without, is taken
// over without loss; and nobody listens on an address that is not in the file any more.
func TestAddressChangesItsShape(t *testing.T) {
	for name, first := range map[string]string{"from the loopback": "127.0.0.1", "from all addresses": "0.0.0.0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exclusive(t)
			s := unwatchedSite(t)
			target := s.listen[0]
			_, port, err := net.SplitHostPort(target)
			if err != nil {
				t.Fatal(err)
			}
			s.listen = []string{first + ":" + port}
			b := start(t, s)
			clients := putQuickLoad(t, target)
			for i, shape := range []struct {
				host, socket string
			}{
				{"0.0.0.0", ""},
				{"127.0.0.1", ""},
				{"0.0.0.0", "reuse_port = true"},
				{"127.0.0.1", "reuse_port = true"},
				{"127.0.0.1", ""},
				{"127.0.0.1", "reuse_port = true"},
				{"", ""},
				{"0.0.0.0", ""},
				{"[::]", "reuse_port = true"},
			} {
				s.listen, s.socket = []string{shape.host + ":" + port}, shape.socket
				b.WriteConfig(s.String())
				b.Reload()
				if st := b.Status(); len(st.Warnings) != 0 {
					t.Errorf("%v: %v", shape, st.Warnings)
				}
				sleep(150 * time.Millisecond)
				wide := shape.host != "127.0.0.1"
				mastertest.Await(t,
					func() string {
						return fmt.Sprint("the listeners of shape ", i, ": ",
							listeners(t, port))
					}, func() bool {
						return (listeners(t, port)["*"] > 0) == wide
					})
				if t.Failed() {
					break
				}
			}
			clients.wantNoLoss(t)
			if st := b.AwaitSettled(); len(st.Listeners) != 1 || st.CutConnections+st.CutRequests != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestConnectionsOutliveTheShape: those that wait move to whoever serves the port now.
func TestConnectionsOutliveTheShape(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	target := s.listen[0]
	_, port, _ := net.SplitHostPort(target)
	b := start(t, s)
	conns := connect(t, target, 50)
	for i, shape := range [][2]string{{"0.0.0.0", ""}, {"127.0.0.1", "reuse_port = true"}, {"127.0.0.1", ""}} {
		s.listen, s.socket = []string{shape[0] + ":" + port}, shape[1]
		b.WriteConfig(s.String())
		b.Reload("--wait")
		for j, c := range conns {
			if j%2 == i%2 {
				ask(t, c)
				if err := answered(c); err != nil {
					t.Fatalf("shape %d, connection %d: %v", i, j, err)
				}
			}
		}
	}
	b.Stop()
	awaitListeners(t, port, map[string]int{})
}

// TestReusePortHasSocketForEachSlot: of every slot that there ever was, and only the workers' own get new connections.
func TestReusePortHasSocketForEachSlot(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	s.socket = "reuse_port = true"
	_, port, _ := net.SplitHostPort(s.listen[0])
	b := start(t, s)
	awaitListeners(t, port, map[string]int{loopback: 2})
	resize(t, b, 4)
	awaitListeners(t, port, map[string]int{loopback: 4})
	resize(t, b, 1)
	b.Reload()
	resize(t, b, 3)
	awaitListeners(t, port, map[string]int{loopback: 4})
	b.Reload("--wait") // until then the worker of slot 0 accepts on all of them, as it did when it was alone
	slots := map[int]int{}
	for range 150 {
		w, err := b.Whoami(s.listen[0])
		if err != nil {
			t.Fatal(err)
		}
		slots[w.Slot]++
	}
	for slot := range 3 {
		if slots[slot] < 25 {
			t.Errorf("slot %d has answered %d of 150: %v", slot, slots[slot], slots)
		}
	}
}
