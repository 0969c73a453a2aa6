package promises_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"baton/master/mastertest"
)

// echoAt is a [[listen]] table.
func echoAt(address, transport string, lines ...string) string {
	text := fmt.Sprintf("\n[[listen]]\naddress = %q\ntransport = %q\nprocess = \"echo\"\n", address, transport)
	for _, l := range lines {
		text += l + "\n"
	}
	return text
}

// TestUDPLosesNothing: every datagram is answered, through reloads, as long as the socket's buffer can take what comes.
func TestUDPLosesNothing(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	address := mastertest.FreePort(t)
	s.routes = echoAt(address, "udp")
	b := start(t, s)
	stop, ended := make(chan struct{}), make(chan counter)
	for range 4 {
		go func() { ended <- countUDP(address, stop) }()
	}
	pace(t, 10, 50*time.Millisecond, func(int) { b.Reload() })
	close(stop)
	total := 0
	for range 4 {
		c := <-ended
		total += c.sent
		if c.err != nil || c.sent != c.answered {
			t.Errorf("%d datagrams sent, %d answered: %v", c.sent, c.answered, c.err)
		}
	}
	t.Logf("%d datagrams, all answered", total)
	if st := b.AwaitSettled(); st.CutConnections+st.CutRequests != 0 {
		t.Errorf("status %+v", st)
	}
}

// counter is what a client of UDP has counted.
type counter struct {
	sent, answered int
	err            error
}

// countUDP sends numbers, 16 of them ahead of their answers, until stop is closed. What is not answered within seconds
// is lost.
func countUDP(address string, stop <-chan struct{}) (c counter) {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return counter{err: err}
	}
	defer conn.Close()
	asked := map[uint64]bool{}
	b := make([]byte, 8)
	for {
		for len(asked) < 16 && !isClosed(stop) {
			if _, c.err = conn.Write(binary.BigEndian.AppendUint64(nil, uint64(c.sent))); c.err != nil {
				return c
			}
			asked[uint64(c.sent)] = true
			c.sent++
		}
		if len(asked) == 0 {
			return c
		}
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, c.err = conn.Read(b); c.err != nil {
			return c
		}
		n := binary.BigEndian.Uint64(b)
		if !asked[n] {
			c.err = fmt.Errorf("answer %d, twice or never asked for", n)
			return c
		}
		delete(asked, n)
		c.answered++
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// TestUDPAddressChangesShape: from one address of the port to all, and back, without loss.
func TestUDPAddressChangesShape(t *testing.T) {
	t.Parallel()
	exclusive(t)
	address := mastertest.FreePort(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	shapes := []string{address, "0.0.0.0:" + port}
	s := unwatchedSite(t)
	routes := func(shape string) site {
		s.routes = echoAt(shape, "udp")
		return s
	}
	b := start(t, routes(shapes[0]))
	stop, ended := make(chan struct{}), make(chan counter)
	for range 4 {
		go func() { ended <- countUDP(address, stop) }()
	}
	for i := range 10 {
		b.WriteConfig(routes(shapes[(i+1)%2]).String())
		b.Reload()
		b.AwaitSettled()
	}
	close(stop)
	for range 4 {
		if c := <-ended; c.err != nil || c.sent != c.answered {
			t.Errorf("%d datagrams sent, %d answered: %v", c.sent, c.answered, c.err)
		}
	}
}

// TestUDPAddressComesAndGoes: a reload brings a UDP address, and takes it away.
func TestUDPAddressComesAndGoes(t *testing.T) {
	t.Parallel()
	one := unwatchedSite(t)
	two := one
	address := mastertest.FreePort(t)
	two.routes = echoAt(address, "udp")
	b := start(t, one)
	b.WriteConfig(two.String())
	b.Reload()
	stop := make(chan struct{})
	ended := make(chan counter)
	go func() { ended <- countUDP(address, stop) }()
	b.Reload()
	close(stop)
	if c := <-ended; c.err != nil || c.sent != c.answered {
		t.Errorf("%d datagrams sent, %d answered: %v", c.sent, c.answered, c.err)
	}
	b.WriteConfig(one.String())
	b.Reload()
	mastertest.Await(t, mastertest.Text("the port to be free"), func() bool {
		pc, err := net.ListenPacket("udp", address)
		if err == nil {
			pc.Close()
		}
		return err == nil
	})
}
