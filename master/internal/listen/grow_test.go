package listen

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestGrowAndShrink: each slot has a socket, that of a slot that went is extra, and comes back with its slot. What is
// held is in the registry, and the kernel chooses among those of the slots that serve.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	o := opened(t, 2, Listener{Address: address, ReusePort: true}, Listener{Address: freeAddress()})
	for _, tt := range []struct {
		to    int
		slots string
	}{
		{2, "-1 0 1"},
		{4, "-1 0 1 2 3"},
		{1, "(1) (2) (3) -1 0"},
		{1, "(1) (2) (3) -1 0"},
		{3, "(3) -1 0 1 2"},
		{5, "-1 0 1 2 3 4"},
	} {
		needs := o.Needs(tt.to)
		if tt.to < o.cfg.Slots {
			o.Shrink(tt.to)
		} else if err := o.Grow(tt.to); err != nil {
			t.Fatal(err)
		}
		o.work(tt.to)
		o.Serve(tt.to, nil)
		if got := o.slots(); got != tt.slots || len(o.registry) != len(o.sockets) {
			t.Errorf("%d slots: %s, want %s; %d in the registry", tt.to, got, tt.slots, len(o.registry))
		}
		if tt.to == 4 && needs != len(o.sockets) {
			t.Errorf("%d slots were to need %d sockets, and have %d", tt.to, needs, len(o.sockets))
		}
		o.knock(address, 20)
		if n := o.accept(isOwn); n != 20 {
			t.Errorf("%d slots: %d of 20 connections came to their sockets", tt.to, n)
		}
	}
}

// TestShrinkTellsTheWorkers: each accepts on the sockets of the slots that went, and hears of each once.
func TestShrinkTellsTheWorkers(t *testing.T) {
	t.Parallel()
	o := opened(t, 3, Listener{Address: freeAddress(), ReusePort: true})
	o.workers[2].Draining = true
	o.Shrink(1)
	o.Serve(1, nil)
	o.Serve(1, nil)
	for slot, want := range []string{"add-socket /1 add-socket /2", "add-socket /2", ""} {
		if got := strings.ReplaceAll(strings.Join(o.heard(slot), " "), o.sockets[0].at(), ""); got != want {
			t.Errorf("worker %d was told %q, want %q", slot, got, want)
		}
	}
}

// TestEmptySlotIsServedByOthers: after a crash, until it has a worker again.
func TestEmptySlotIsServedByOthers(t *testing.T) {
	t.Parallel()
	o := opened(t, 3, Listener{Address: freeAddress(), ReusePort: true})
	o.workers = o.workers[1:]
	o.Serve(3, []int{0})
	for _, w := range o.workers {
		if got := strings.Join(o.heard(w.Slot), " "); got != "add-socket "+o.sockets[0].key {
			t.Errorf("worker %d was told %q", w.Slot, got)
		}
	}
	if o.sockets[0].extra {
		t.Error("its socket is extra")
	}
}

// TestFailedGrowthIsUndone: one of the listeners cannot grow. The sockets of the others are closed again, here and
// in the registry, and those of slots that went before stay extra.
func TestFailedGrowthIsUndone(t *testing.T) {
	t.Parallel()
	o := opened(t, 3, Listener{Address: freeAddress(), ReusePort: true},
		Listener{Address: freeAddress(), ReusePort: true})
	o.Shrink(2)
	before := o.slots()
	taken := foreign(t, freeAddress())
	l := Listener{Address: taken.Addr().String(), ReusePort: true}
	addr, err := o.resolve(l)
	if err != nil {
		t.Fatal(err)
	}
	o.listeners = append(o.listeners, listener{l, addr})
	if err := o.Grow(5); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("grow: %v", err)
	}
	if got := o.slots(); got != before || len(o.registry) != len(o.sockets) || o.cfg.Slots != 2 {
		t.Errorf("%d slots: %s, want %s; in the registry %v", o.cfg.Slots, got, before, o.registry)
	}
}

// TestGrowthBesideFailedListener: a listener whose address somebody else has grows with the others. Its sockets are
// tried again, and the successor has all of them.
func TestGrowthBesideFailedListener(t *testing.T) {
	t.Parallel()
	good, bad := freeAddress(), freeAddress()
	all := []Listener{{Address: bad, ReusePort: true}, {Address: good, ReusePort: true}}
	o := newOwner(t)
	if err := o.Open(o, Config{Listeners: all, Slots: 2, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	ln := foreign(t, bad)
	o.start(2)
	if err := o.Grow(4); err != nil {
		t.Fatal(err)
	}
	o.work(4)
	o.Serve(4, nil)
	if got := o.slots(); got != "0 0! 1 1! 2 2! 3 3!" || len(o.registry) != 8 || len(o.warnings) != 1 {
		t.Errorf("%s; %d in the registry, warnings %q", got, len(o.registry), o.warnings)
	}
	next := o.successor(Config{Listeners: all, Slots: 4})
	o.knock(good, 40)
	if n := o.accept(isOwn); n != 40 {
		t.Errorf("%d of 40 connections", n)
	}
	for range 3 {
		if at, changed := next.check(time.Minute); at == 0 || changed {
			t.Fatal("it is not tried again")
		}
	}
	if len(next.said) != 1 {
		t.Errorf("it was said %q", next.said)
	}
	_ = ln.Close()
	if at, changed := next.check(time.Minute); at != 0 || !changed || len(next.warnings) != 0 {
		t.Errorf("the next look is in %v; %q", at, next.warnings)
	}
	next.knock(bad, 40)
	for slot := range 4 {
		if n := next.accept(func(k *socket) bool { return k.Address == bad && k.Slot == slot }); n == 0 {
			t.Errorf("none of 40 connections came to slot %d", slot)
		}
	}
	if local := Local(next.sockets[3].fd); local != bad {
		t.Errorf("the socket of the last slot is at %s", local)
	}
}

// TestOnlyTCPGrows: what else says reuse_port has one socket for all.
func TestOnlyTCPGrows(t *testing.T) {
	t.Parallel()
	o := opened(t, 1, Listener{Address: freeAddress(), ReusePort: true},
		Listener{Address: freeAddress(), Transport: "udp", ReusePort: true},
		Listener{Address: "unix:s", ReusePort: true})
	if err := o.Grow(4); err != nil {
		t.Fatal(err)
	}
	if got := o.slots(); got != "-1 -1 0 1 2 3" {
		t.Error(got)
	}
}

// TestOverlappingNewSockets: bound beside each other, they all listen, and no second warning comes of it.
func TestOverlappingNewSockets(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	_, port, _ := net.SplitHostPort(address)
	o := newOwner(t)
	if err := o.Open(o, Config{Slots: 2, Generation: 1, Listeners: []Listener{
		{Address: "0.0.0.0:" + port},
		{Address: address},
		{Address: ":" + port, ReusePort: true},
		{Address: "0.0.0.0:" + port, Transport: "udp", Name: "u"},
		{Address: address, Transport: "udp", Name: "v"},
	}}); err != nil {
		t.Skip("the port is somebody's: ", err)
	}
	o.start(2)
	if len(o.warnings) != 0 {
		t.Errorf("%q", o.warnings)
	}
	o.knock(address, 10)
	if n := o.accept(func(k *socket) bool { return k.Address == address && k.isTCP() }); n != 10 {
		t.Errorf("%d of 10 connections came to the narrowest address", n)
	}
}
