package master

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// TestListenerThatCannotListen: it alone is not served, that is one warning, however often it is tried, and workers
// are told when it listens.
func TestListenerThatCannotListen(t *testing.T) {
	t.Parallel()
	for name, perSlot := range map[string]bool{"one socket": false, "a socket for each slot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, bad := freeAddress(), freeAddress()
			m, _ := fakeMaster(t, Config{Workers: 2, Listen: []Listen{{Address: bad, ReusePort: perSlot}, {Address: good}}})
			heard := serveSlots(t, m, 2)
			if err := m.openListeners(); err != nil {
				t.Fatal(err)
			}
			foreign, err := net.Listen("tcp", bad)
			if err != nil {
				t.Fatal(err)
			}
			m.listenNew()
			m.steer()
			now := monotime.Now()
			for range 20 {
				now = m.checkRelisten(now)
			}
			if w := m.warnings.list(); len(w) != 1 || !strings.Contains(w[0], bad) {
				t.Errorf("warnings %q", w)
			}
			st := m.listenerStatus()
			if st[0].State != "failed" || st[0].Error == "" || st[1].State != "listening" {
				t.Errorf("%+v", st)
			}
			if got := heard(0); len(got) != 0 {
				t.Errorf("the workers were told %q", got)
			}
			_ = foreign.Close()
			// A child that another test has forked holds the foreign socket until it executes its program.
			for end := time.Now().Add(10 * time.Second); m.checkRelisten(m.relisten.at) != 0; {
				if time.Now().After(end) {
					t.Fatalf("it is not served: %q", m.warnings.list())
				}
			}
			if got := heard(1); !slices.Equal(got, []string{wire.Listening{}.Kind()}) {
				t.Errorf("the workers were told %q", got)
			}
			if w := m.warnings.list(); len(w) != 0 || m.listenerStatus()[0].State != "listening" {
				t.Errorf("warnings %q", w)
			}
			knock(t, m, bad, 20)
		})
	}
}

// TestRelistenHasPauses: that grow up to a limit.
func TestRelistenHasPauses(t *testing.T) {
	t.Parallel()
	bad := freeAddress()
	m, _ := fakeMaster(t, Config{Workers: 1, Listen: []Listen{{Address: bad}}})
	if err := m.openListeners(); err != nil {
		t.Fatal(err)
	}
	foreign, err := net.Listen("tcp", bad)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = foreign.Close() }()
	before := monotime.Now()
	m.listenNew()
	for i, want := range []int{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		pause := time.Duration(want) * time.Millisecond
		if at := m.relisten.at; at < before.Add(pause) || at > monotime.Now().Add(pause) {
			t.Fatalf("pause %d is %v, want %v", i, at.Sub(before), pause)
		}
		before = monotime.Now()
		m.checkRelisten(m.relisten.at)
	}
	if m.phase = phaseStopping; m.checkRelisten(m.relisten.at) != 0 {
		t.Error("it is tried while everything stops")
	}
}

// TestOverlappingFreshSockets: bound beside each other, they all listen, and no second warning comes of it.
func TestOverlappingFreshSockets(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	_, port, _ := net.SplitHostPort(address)
	m, _ := fakeMaster(t, Config{Workers: 2, Listen: []Listen{
		{Address: "0.0.0.0:" + port},
		{Address: address},
		{Address: ":" + port, ReusePort: true},
		{Address: "0.0.0.0:" + port, Transport: "udp", Name: "u"},
		{Address: address, Transport: "udp", Name: "v"},
	}})
	serveSlots(t, m, 2)
	if err := m.openListeners(); err != nil {
		t.Skip("the port is somebody's: ", err)
	}
	m.listenNew()
	m.steer()
	if w := m.warnings.list(); len(w) != 0 {
		t.Errorf("%q", w)
	}
	knock(t, m, address, 10)
	if n := acceptAll(m, func(s sock) bool { return s.Address == address }); n != 10 {
		t.Errorf("%d of 10 connections came to the narrowest address", n)
	}
}

// TestBatch: what a worker gets is split so that each message can be sent, and nothing is lost or changes its place.
func TestBatch(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<", maxListenBytes)
	var all []sock
	for i := range MaxListeners {
		s := sock{Listen: Listen{Name: "x"}, fd: i}
		if i%100 == 7 {
			s.Name, s.Address, s.Group = long, "unix:"+long, "unix/"+long
		}
		all = append(all, s)
	}
	paths := make([]wire.Path, 300)
	for i := range paths {
		paths[i].Ino, paths[i].Path = int64(i), "/"+strings.Repeat("x", 3*i)
	}
	var fds []int
	var inos []int64
	batches := batch(all, paths)
	for i, b := range batches {
		if _, err := wire.Encode(b.Sockets); err != nil || len(b.fds) > wire.MaxFDs || len(b.fds) != len(b.Listeners) {
			t.Errorf("message %d: %v, %d descriptors", i, err, len(b.fds))
		}
		if b.More != (i < len(batches)-1) {
			t.Errorf("message %d of %d: more %v", i, len(batches), b.More)
		}
		fds = append(fds, b.fds...)
		for _, p := range b.Paths {
			inos = append(inos, p.Ino)
		}
	}
	if len(fds) != MaxListeners || !slices.IsSorted(fds) || len(inos) != len(paths) || !slices.IsSorted(inos) {
		t.Errorf("%d descriptors, %d paths", len(fds), len(inos))
	}
	if got := batch(nil, nil); got != nil {
		t.Errorf("%v", got)
	}
}
