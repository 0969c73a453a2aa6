package master

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/supervisor"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// fakeMaster is a master without workers whose supervisor never answers; said returns what it was told since the last call.
func fakeMaster(t *testing.T, cfg Config) (m *master, said func() []wire.Message) {
	t.Helper()
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*seqpacket.Conn
	for i, fd := range []int{ours, theirs} {
		if ends[i], err = seqpacket.New(fd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	m = &master{
		cfg: cfg, gen: 1, want: cfg.Workers, phase: phaseCurrent, supervisor: ends[0], log: slog.New(slog.DiscardHandler),
		sink:      logsink.New(2),
		inherited: map[string]entry{}, procs: map[int]*proc{}, resolved: map[string]string{}, steered: map[address]string{},
		dir: t.TempDir(),
	}
	t.Cleanup(m.closeListeners)
	return m, func() []wire.Message { return m.heard(t, ends[1]) }
}

// heard reads what was posted to the supervisor, up to now.
func (m *master) heard(t *testing.T, supervisor *seqpacket.Conn) []wire.Message {
	t.Helper()
	_ = m.supervisor.Post(message.End{})
	var all []wire.Message
	for {
		p, err := supervisor.Recv()
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
		var put message.Put
		var drop message.Drop
		switch {
		case p.Frame.T == message.End{}.Kind():
			return all
		case p.Frame.Into(&put) == nil:
			all = append(all, put)
		case p.Frame.Into(&drop) == nil:
			all = append(all, drop)
		}
	}
}

// entries are the listening sockets that are in the registry after what was said.
func entries(said []wire.Message) map[string]bool {
	left := map[string]bool{}
	for _, m := range said {
		switch m := m.(type) {
		case message.Put:
			if strings.HasPrefix(m.Name, supervisor.EntryListen+"/") {
				left[m.Name] = true
			}
		case message.Drop:
			delete(left, m.Name)
		}
	}
	return left
}

// freeAddress is one that no other test has: on a loopback address and a port of its own.
func freeAddress() string {
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254), 10000+rand.IntN(20000))
}

// TestFailedGrowthIsUndone: one of the listeners cannot grow. The sockets of the others are closed again, here and
// in the registry, and the size stays; so do the sockets of slots that went before.
func TestFailedGrowthIsUndone(t *testing.T) {
	t.Parallel()
	one, two := freeAddress(), freeAddress()
	m, said := fakeMaster(t, Config{Workers: 3, Listen: []Listen{
		{Address: one, ReusePort: true}, {Address: two, ReusePort: true},
	}})
	if err := m.openListeners(); err != nil {
		t.Fatal(err)
	}
	m.listenNew()
	if err := m.resize(2); err != nil {
		t.Fatal(err)
	}
	before := entries(said())
	taken, err := net.Listen("tcp", freeAddress())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	m.cfg.Listen = append(m.cfg.Listen, Listen{Address: taken.Addr().String(), ReusePort: true})
	sockets := len(m.sockets)
	err = m.resize(5)
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("resize: %v", err)
	}
	left := before
	for name := range entries(said()) {
		left[name] = true
	}
	if m.want != 2 || len(m.sockets) != sockets || len(left) != len(before) {
		t.Errorf("%d slots, %d sockets, were %d; in the store %v", m.want, len(m.sockets), sockets, left)
	}
	for _, s := range m.sockets {
		if s.extra != (s.Slot >= 2) {
			t.Errorf("slot %d: extra %v", s.Slot, s.extra)
		}
	}
}

// TestResizeTellsTheTruth: an error, or it is so.
func TestResizeTellsTheTruth(t *testing.T) {
	t.Parallel()
	m, _ := fakeMaster(t, Config{Workers: 3})
	for _, n := range []int{3, 4, 1, MaxWorkers} {
		if err := m.resize(n); err != nil || m.want != n {
			t.Errorf("%d: %v; %d", n, err, m.want)
		}
	}
	for _, n := range []int{0, -1, MaxWorkers + 1} {
		if err := m.resize(n); err == nil || m.want != MaxWorkers {
			t.Errorf("%d: %v; %d", n, err, m.want)
		}
	}
	m.phase = phaseStopping
	if err := m.resize(2); err == nil || m.want != MaxWorkers {
		t.Errorf("while stopping: %v; %d", err, m.want)
	}
}

// TestOnlyTCPGrows: what else says reuse_port has one socket for all.
func TestOnlyTCPGrows(t *testing.T) {
	t.Parallel()
	m, _ := fakeMaster(t, Config{Workers: 1, Listen: []Listen{
		{Address: freeAddress(), ReusePort: true},
		{Address: freeAddress(), Transport: "udp", ReusePort: true},
		{Address: "unix:s", ReusePort: true},
	}})
	if err := m.openListeners(); err != nil {
		t.Fatal(err)
	}
	if err := m.resize(4); err != nil {
		t.Fatal(err)
	}
	if len(m.sockets) != 4+1+1 {
		t.Errorf("%+v", m.sockets)
	}
}
