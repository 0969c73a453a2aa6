package master

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/sockets"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// serveSlots gives a fake master workers that serve in the slots up to n. heard returns the kinds of what the one in
// a slot was told since the last call.
func serveSlots(t *testing.T, m *master, n int) (heard func(slot int) []string) {
	t.Helper()
	var ends []*seqpacket.Conn
	for slot := range n {
		ours, theirs, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		p := &proc{Worker: plan.Worker{PID: 1 << 30, Generation: m.gen, Slot: slot, State: plan.Serving}}
		p.PID += slot
		if p.conn, err = seqpacket.New(ours); err != nil {
			t.Fatal(err)
		}
		end, err := seqpacket.New(theirs)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.conn.Close(); _ = end.Close() })
		ends = append(ends, end)
		m.procs[p.PID] = p
	}
	return func(slot int) []string {
		t.Helper()
		_ = m.procs[1<<30+slot].conn.Post(wire.Go{})
		var kinds []string
		for {
			p, err := ends[slot].Recv()
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
			if p.Frame.T == (wire.Go{}).Kind() {
				return kinds
			}
			kinds = append(kinds, p.Frame.T)
		}
	}
}

// open makes a fake master listen as its configuration says.
func open(t *testing.T, m *master) {
	t.Helper()
	if err := m.openListeners(); err != nil {
		t.Fatal(err)
	}
	m.listenNew()
	m.steer()
}

// knock makes n connections, and waits until each is in a queue.
func knock(t *testing.T, m *master, address string, n int) {
	t.Helper()
	before := queued(m)
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	for queued(m) < before+n {
		time.Sleep(time.Millisecond)
	}
}

func queued(m *master) (n int) {
	for _, s := range m.sockets {
		n += acceptQueue(s.fd)
	}
	return n
}

// acceptAll empties the queues of the sockets that pick picks, and counts what was there.
func acceptAll(m *master, pick func(s sock) bool) (n int) {
	for _, s := range m.sockets {
		for pick(s) {
			fd, _, err := unix.Accept(s.fd)
			if err != nil {
				break
			}
			_ = unix.Close(fd)
			n++
		}
	}
	return n
}

func isExtra(s sock) bool { return s.extra }
func isOwn(s sock) bool   { return !s.extra }

// TestSocketsOfSlotsThatWentAreClosed: when nothing can come there any more and their queues are empty, here, in the
// store and in the workers; and the kernel chooses among those that are left.
func TestSocketsOfSlotsThatWentAreClosed(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	m, said := fakeMaster(t, Config{Workers: 4, Listen: []Listen{{Address: address, ReusePort: true}}})
	heard := serveSlots(t, m, 4)
	open(t, m)
	knock(t, m, address, 60) // some to each
	if err := m.resize(2); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(heard(0), " "); got != "add-socket add-socket" {
		t.Errorf("the worker that stays was told %q", got)
	}
	knock(t, m, address, 60)
	acceptAll(m, isOwn)

	before := monotime.Now()
	if next := m.closeQuiet(before); len(m.sockets) != 4 || next <= before || next > before.Add(handshakeLife) {
		t.Errorf("at once: %d sockets, the next look in %v", len(m.sockets), time.Duration(next-before))
	}
	later := monotime.Now().Add(handshakeLife)
	if next := m.closeQuiet(later); len(m.sockets) != 4 || next != later.Add(time.Second) {
		t.Errorf("with connections queued: %d sockets, the next look in %v", len(m.sockets), time.Duration(next-later))
	}
	acceptAll(m, isExtra)
	m.upgrading = "a"
	if next := m.closeQuiet(later); len(m.sockets) != 4 || next != 0 {
		t.Errorf("while a successor starts: %d sockets", len(m.sockets))
	}
	m.upgrading = ""
	if next := m.closeQuiet(later); len(m.sockets) != 2 || next != 0 {
		t.Errorf("then: %d sockets, the next look in %v", len(m.sockets), time.Duration(next-later))
	}
	if left := entries(said()); len(left) != 2 {
		t.Errorf("in the store: %v", left)
	}
	if got := strings.Join(heard(0), " "); got != "remove-socket remove-socket" {
		t.Errorf("the worker that stays was told %q", got)
	}
	knock(t, m, address, 60)
	if n := acceptAll(m, isOwn); n != 60 {
		t.Errorf("%d of 60 connections", n)
	}
	if err := m.resize(4); err != nil || len(m.sockets) != 4 {
		t.Errorf("growing again: %v, %d sockets", err, len(m.sockets))
	}
}

// TestLastSocketTakesThePlace: of slots that went below it; it is steered to all the same.
func TestLastSocketTakesThePlace(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	m, said := fakeMaster(t, Config{Workers: 3, Listen: []Listen{{Address: address, ReusePort: true}}})
	serveSlots(t, m, 3)
	open(t, m)
	for _, s := range m.sockets { // what a successor inherits
		m.inherited[s.entry()] = entry{data: recordOf(s), fd: s.fd}
	}
	m.sockets, m.cfg.Listen[0].ReusePort = nil, false
	open(t, m)
	check := func(when string) {
		t.Helper()
		knock(t, m, address, 40)
		if n := acceptAll(m, isOwn); n != 40 {
			t.Errorf("%s: %d of 40 connections came to the shared socket", when, n)
		}
	}
	check("beside the others")
	_ = said()
	m.closeQuiet(monotime.Now().Add(handshakeLife))
	if len(m.sockets) != 1 || m.sockets[0].Order != 0 || m.sockets[0].Slot != sockets.Shared {
		t.Errorf("%+v", m.sockets)
	}
	check("alone")
	m.cfg.Listen[0].ReusePort = true
	m.inherited[m.sockets[0].entry()] = entry{data: recordOf(m.sockets[0]), fd: m.sockets[0].fd}
	m.sockets = nil
	open(t, m)
	check("with one for each slot again")
}

func recordOf(s sock) string {
	b, _ := wire.Marshal(s.sockRecord)
	return string(b)
}

// TestExtraAddressKeepsOneSocket: an address within a wider one cannot be steered away from, so one socket of it stays.
func TestExtraAddressKeepsOneSocket(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	_, port, _ := net.SplitHostPort(address)
	m, _ := fakeMaster(t, Config{Workers: 3, Listen: []Listen{{Address: address, ReusePort: true}}})
	serveSlots(t, m, 3)
	open(t, m)
	for _, s := range m.sockets {
		m.inherited[s.entry()] = entry{data: recordOf(s), fd: s.fd}
	}
	m.sockets, m.cfg.Listen = nil, []Listen{{Address: "0.0.0.0:" + port}}
	if err := m.openListeners(); err != nil {
		t.Skip("the port is somebody's on another address: ", err)
	}
	m.listenNew()
	m.steer()
	m.closeQuiet(monotime.Now().Add(handshakeLife))
	if len(m.sockets) != 2 {
		t.Fatalf("%+v", m.sockets)
	}
	knock(t, m, address, 20)
	if n := acceptAll(m, isExtra); n != 20 {
		t.Errorf("%d of 20 connections to the narrow address", n)
	}
}
