package main

import (
	"slices"
	"testing"
)

func listening(all ...listener) *shape {
	s := &shape{Values: map[string]int{}}
	for i, l := range all {
		s.Listen[i] = &l
	}
	return s
}

func at(host string) listener { return listener{Host: host, Transport: "tcp", Process: "http"} }

func udpAt(host string) listener { return listener{Host: host, Transport: "udp", Process: "echo"} }

func TestCover(t *testing.T) {
	const four, other, six = "127.0.0.1", "127.0.0.9", "[::1]"
	for _, tc := range []struct {
		name    string
		shape   *shape
		network string
		host    string
		place   int
		sure    bool
	}{
		{"nobody", listening(), "tcp", four, -1, true},
		{"the address itself", listening(at(four)), "tcp", four, 0, true},
		{"another address", listening(at(four)), "tcp", other, -1, true},
		{"a name", listening(at("localhost")), "tcp", four, 0, true},
		{"a name may be IPv6 too", listening(at("localhost")), "tcp", six, -1, false},
		{"all of IPv4", listening(at("0.0.0.0")), "tcp", other, 0, true},
		{"all of IPv4 is not IPv6", listening(at("0.0.0.0")), "tcp", six, -1, false},
		{"all", listening(at("")), "tcp", six, 0, true},
		{"all, written out", listening(at("[::]")), "tcp", other, 0, true},
		{"the more specific one", listening(at(""), at(four)), "tcp", four, 1, true},
		{"in whatever order", listening(at(four), at("")), "tcp", four, 0, true},
		{"the rest has the wildcard", listening(at(four), at("")), "tcp", other, 1, true},
		{"two equal ones", listening(at(four), at("localhost")), "tcp", four, 0, false},
		{"two wildcards", listening(at("0.0.0.0"), at("")), "tcp", other, 0, false},
		{"a name and the address", listening(at("localhost"), at(six)), "tcp", six, 1, true},
		{"udp is another network", listening(at(four), udpAt(four)), "udp", four, 1, true},
		{"udp from all addresses", listening(udpAt("0.0.0.0")), "udp", four, 0, true},
		{"udp from another address", listening(udpAt("0.0.0.0")), "udp", other, -1, false},
	} {
		if place, sure := tc.shape.cover(tc.network, tc.host, 0); place != tc.place || sure != tc.sure {
			t.Errorf("%s: place %d, sure %v; want %d, %v", tc.name, place, sure, tc.place, tc.sure)
		}
	}
}

func TestTargets(t *testing.T) {
	s := listening(at("127.0.0.1"), listener{Host: "0.0.0.0", Transport: "tls", Process: "echo"},
		listener{Host: "unix", Port: 1, Transport: "tcp", Process: "http"})
	want := []target{
		{"tcp", "127.0.0.1", 0, "tcp", "http"},
		{"tcp", "127.0.0.2", 0, "tls", "echo"},
		{"tcp", "127.0.0.9", 0, "tls", "echo"},
		{"unix", "", 1, "tcp", "http"},
	}
	got := s.targets()
	for _, w := range want {
		if !slices.Contains(got, w) || !s.serves(w) {
			t.Errorf("%v is not among %v", w, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if s.serves(target{"tcp", "127.0.0.1", 0, "tls", "echo"}) {
		t.Error("another protocol is served as well")
	}
}

func TestMoves(t *testing.T) {
	stay := at("127.0.0.1")
	stay.NoHandover = true
	for _, tc := range []struct {
		name string
		l    listener
		want bool
	}{
		{"http", at("127.0.0.1"), true},
		{"echo", listener{Host: "127.0.0.1", Transport: "tcp", Process: "echo"}, true},
		{"handover = false", stay, false},
		{"tls", listener{Host: "127.0.0.1", Transport: "tls", Process: "http"}, false},
		{"websocket", listener{Host: "127.0.0.1", Transport: "tcp", Process: "websocket-echo"}, false},
	} {
		s := listening(tc.l)
		if got := s.moves(s.targets()[0]); got != tc.want {
			t.Errorf("%s: moves %v", tc.name, got)
		}
	}
}

func TestOverlapping(t *testing.T) {
	for _, tc := range []struct {
		a, b listener
		want bool
	}{
		{at("127.0.0.1"), at("127.0.0.1"), true},
		{at("127.0.0.1"), at("127.0.0.2"), false},
		{at("127.0.0.1"), at("localhost"), true},
		{at("127.0.0.1"), at("0.0.0.0"), true},
		{at(""), at("[::1]"), true},
		{at("127.0.0.1"), at("[::1]"), false},
		{at("127.0.0.1"), udpAt("127.0.0.1"), false},
		{at("0.0.0.0"), at("[::]"), true},
	} {
		if got := len(listening(tc.a, tc.b).overlapping()) > 0; got != tc.want {
			t.Errorf("%q and %q overlap: %v", tc.a.Host, tc.b.Host, got)
		}
	}
}

func TestClosed(t *testing.T) {
	closed := listening(at("127.0.0.1")).closed(2)
	served := func(t target) bool { return t.Host == "127.0.0.1" && t.Port == 0 }
	if len(closed) != 2*len(hosts())-1 || slices.ContainsFunc(closed, served) {
		t.Errorf("%v", closed)
	}
	if closed := listening(at("")).closed(1); len(closed) != 0 {
		t.Errorf("%v", closed)
	}
}

func TestTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b listener
		want bool
	}{
		{listener{Host: "127.0.0.1", Transport: "tcp"}, listener{Host: "localhost", Transport: "tls"}, true},
		{listener{Host: "", Transport: "tcp"}, listener{Host: "[::]", Transport: "tcp"}, true},
		{listener{Host: "unix", Transport: "tcp"}, listener{Host: "unix", Transport: "tls"}, true},
		{listener{Host: "", Transport: "tcp"}, listener{Host: "0.0.0.0", Transport: "tcp"}, false},
		{listener{Host: "127.0.0.1", Transport: "tcp"}, listener{Host: "127.0.0.1", Transport: "udp"}, false},
		{listener{Host: "127.0.0.1", Transport: "tcp"}, listener{Host: "127.0.0.1", Port: 1, Transport: "tcp"}, false},
	} {
		if got := (&shape{Listen: [places]*listener{0: &c.a, 3: &c.b}}).twice(); got != c.want {
			t.Errorf("%+v and %+v: %t, want %t", c.a, c.b, got, c.want)
		}
	}
}
