package listen

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSocketsOfSlotsThatWentAreClosed: when nothing can come there any more and their queues are empty, here, in the
// registry and in the workers; and the kernel chooses among those that are left.
func TestSocketsOfSlotsThatWentAreClosed(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	o := opened(t, 4, Listener{Address: address, ReusePort: true})
	o.knock(address, 60) // some to each
	o.Shrink(2)
	o.Serve(2, nil)
	o.heard(0)
	o.knock(address, 60)
	o.accept(isOwn)

	if next, changed := o.check(0); changed || len(o.sockets) != 4 || next <= 0 || next > handshakeLife {
		t.Errorf("at once: %d sockets, the next look in %v", len(o.sockets), next)
	}
	if next, changed := o.check(handshakeLife); changed || len(o.sockets) != 4 || next != time.Second {
		t.Errorf("with connections queued: %d sockets, the next look in %v", len(o.sockets), next)
	}
	o.accept(isExtra)
	later := o.sockets[3].Quiet.Add(handshakeLife)
	if next, changed := o.Check(later, false); changed || len(o.sockets) != 4 || next != 0 {
		t.Errorf("while a successor starts: %d sockets", len(o.sockets))
	}
	if next, changed := o.check(handshakeLife); !changed || len(o.sockets) != 2 || next != 0 {
		t.Errorf("then: %d sockets, the next look in %v", len(o.sockets), next)
	}
	if len(o.registry) != 2 {
		t.Errorf("in the registry: %v", o.registry)
	}
	at := o.sockets[0].at()
	if got := strings.Join(o.heard(0), " "); got != "remove-socket "+at+"/2 remove-socket "+at+"/3" {
		t.Errorf("the worker that stays was told %q", got)
	}
	o.knock(address, 60)
	if n := o.accept(isOwn); n != 60 {
		t.Errorf("%d of 60 connections", n)
	}
	if err := o.Grow(4); err != nil || len(o.sockets) != 4 {
		t.Errorf("growing again: %v, %d sockets", err, len(o.sockets))
	}
}

// TestQuietTimeBeginsAnew: for a socket whose slot was there again in between, in another generation.
func TestQuietTimeBeginsAnew(t *testing.T) {
	t.Parallel()
	all := []Listener{{Address: freeAddress(), ReusePort: true}}
	first := opened(t, 2, all...)
	first.Shrink(1)
	first.Serve(1, nil)
	before := first.sockets[1].Quiet
	second := first.successor(Config{Listeners: all, Slots: 2})
	third := second.successor(Config{Listeners: all, Slots: 1})
	if k := third.sockets[1]; before == 0 || !k.extra || k.Quiet <= before {
		t.Errorf("quiet since %d, at first since %d", k.Quiet, before)
	}
}

// TestLastSocketTakesThePlace: of slots that went below it; it is steered to all the same.
func TestLastSocketTakesThePlace(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	perSlot, shared := []Listener{{Address: address, ReusePort: true}}, []Listener{{Address: address}}
	check := func(o *owner, when string) {
		t.Helper()
		o.knock(address, 40)
		if n := o.accept(isOwn); n != 40 {
			t.Errorf("%s: %d of 40 connections came to the sockets of the listener", when, n)
		}
	}
	o := opened(t, 3, perSlot...).successor(Config{Listeners: shared, Slots: 3})
	check(o, "beside the others")
	o.check(handshakeLife)
	if o.slots() != "-1" || o.sockets[0].Order != 0 {
		t.Errorf("%+v", o.sockets[0])
	}
	check(o, "alone")
	check(o.successor(Config{Listeners: perSlot, Slots: 3}), "with one for each slot again")
}

// TestExtraAddressKeepsOneSocket: an address within a wider one cannot be steered away from, so one socket of it stays.
func TestExtraAddressKeepsOneSocket(t *testing.T) {
	t.Parallel()
	address := freeAddress()
	_, port, _ := net.SplitHostPort(address)
	o, err := opened(t, 3, Listener{Address: address, ReusePort: true}).
		trySuccessor(Config{Listeners: []Listener{{Address: "0.0.0.0:" + port}}, Slots: 3})
	if err != nil {
		t.Skip("the port is somebody's on another address: ", err)
	}
	o.start(3)
	o.check(handshakeLife)
	if got := o.slots(); got != "(0) -1" {
		t.Fatal(got)
	}
	o.knock(address, 20)
	if n := o.accept(isExtra); n != 20 {
		t.Errorf("%d of 20 connections to the narrow address", n)
	}
}

// TestChoose is the table of the places that new connections may go to.
func TestChoose(t *testing.T) {
	t.Parallel()
	own := func(slot int) *socket { return &socket{record: record{Slot: slot}} }
	extra := func(slot int) *socket { return &socket{record: record{Slot: slot}, extra: true} }
	for _, tt := range []struct {
		name    string
		all     []*socket
		serving int
		want    []int
	}{
		{"one that all share", []*socket{own(Shared)}, 1, []int{0}},
		{"each slot", []*socket{own(0), own(1), own(2)}, 3, []int{0, 1, 2}},
		{"those that serve", []*socket{own(0), own(1), own(2)}, 2, []int{0, 1}},
		{"in whatever order they listened", []*socket{own(2), own(0), own(1)}, 2, []int{1, 2}},
		{"not those of slots that went", []*socket{own(0), extra(1), extra(2)}, 1, []int{0}},
		{"the shared one, not the slots'", []*socket{extra(0), extra(1), own(Shared)}, 2, []int{2}},
		{"one, where only extra ones are left", []*socket{extra(1), extra(0)}, 2, []int{0}},
	} {
		if got := choose(tt.all, tt.serving); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
