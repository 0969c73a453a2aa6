package main

import (
	"fmt"
	"slices"
	"strings"
)

// target is an address that clients ask, and what they speak there.
type target struct {
	Network   string // tcp, udp, unix
	Host      string // as it is dialled; empty with unix
	Port      int
	Transport string
	Process   string
}

// hosts are the addresses at which clients look for a port. No listener has the third one to itself.
func hosts() []string { return []string{"127.0.0.1", "127.0.0.2", "127.0.0.9", "[::1]"} }

func (l *listener) network() string {
	switch {
	case l.Host == "unix":
		return "unix"
	case l.Transport == "udp":
		return "udp"
	default:
		return "tcp"
	}
}

// names reports whether the listener's address is exactly this host.
func (l *listener) names(host string) bool {
	return l.Host == host || l.Host == "localhost" && host == "127.0.0.1"
}

// reach is how a listener's address and the host that a client dials belong together.
type reach int

const (
	apart    reach = iota
	maybe          // nothing is promised
	wildcard       // among others
	exact
)

// reaches says whether a client that dials the host meets the listener, if no other one is there.
func (l *listener) reaches(host string) reach {
	six := strings.HasPrefix(host, "[")
	switch {
	case l.names(host):
		return exact
	case l.Transport == "udp" && host != "127.0.0.1" && l.wild():
		return maybe // the answer comes from the address that the kernel prefers
	case l.Host == "localhost" && host == "[::1]":
		return maybe
	case l.Host == "" || l.Host == "[::]":
		return wildcard
	case l.Host == "0.0.0.0" && !six:
		return wildcard
	case l.Host == "0.0.0.0":
		return maybe
	default:
		return apart
	}
}

// cover says which listener a client meets who dials a host: the place, or -1. sure is false if it is not clear that
// it is so: two listeners that have the same right to it, or an address for which nothing is promised. Then nothing
// is expected of what the client meets.
func (s *shape) cover(network, host string, port int) (place int, sure bool) {
	place, best := -1, apart
	sure = true
	for i, l := range s.Listen {
		if l == nil || l.network() != network || l.Port != port {
			continue
		}
		r := exact
		if network != "unix" {
			r = l.reaches(host)
		}
		switch {
		case r == apart:
		case r == maybe:
			sure = sure && best == exact
		case r == best:
			sure = false
		case r > best:
			place, best, sure = i, r, r == exact || sure
		}
	}
	return place, sure
}

// twice reports whether two listeners have the same address, however it is written.
func (s *shape) twice() bool {
	type address struct {
		network, host string
		port          int
	}
	written := map[string]string{"localhost": "127.0.0.1", "": "[::]"}
	seen := map[address]bool{}
	for _, l := range s.Listen {
		if l == nil {
			continue
		}
		a := address{l.network(), l.Host, l.Port}
		if host, ok := written[l.Host]; ok {
			a.host = host
		}
		if seen[a] {
			return true
		}
		seen[a] = true
	}
	return false
}

// targets are what clients may rely on in a shape.
func (s *shape) targets() []target {
	var all []target
	for _, l := range s.Listen {
		if l == nil {
			continue
		}
		dial := hosts()
		if l.network() == "unix" {
			dial = []string{""}
		}
		for _, host := range dial {
			if t, ok := s.target(l.network(), host, l.Port); ok && !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	return all
}

// target is what clients that dial the host may rely on; not ok if that is nothing.
func (s *shape) target(network, host string, port int) (t target, ok bool) {
	place, sure := s.cover(network, host, port)
	if place < 0 || !sure {
		return t, false
	}
	l := s.Listen[place]
	return target{network, host, port, l.Transport, l.Process}, true
}

// serves reports whether clients of a target may rely on the shape.
func (s *shape) serves(t target) bool {
	now, ok := s.target(t.Network, t.Host, t.Port)
	return ok && now == t
}

// closed are the addresses of the walk's ports where nobody may answer.
func (s *shape) closed(n int) (all []target) {
	for port := range n {
		for _, host := range hosts() {
			if place, sure := s.cover("tcp", host, port); place < 0 && sure {
				all = append(all, target{Network: "tcp", Host: host, Port: port})
			}
		}
	}
	return all
}

// moves reports whether a connection to the target moves when a worker is replaced, as the table in
// master/README.md has it.
func (s *shape) moves(t target) bool {
	place, sure := s.cover(t.Network, t.Host, t.Port)
	return place >= 0 && sure && t.Transport == "tcp" && t.Process != "websocket-echo" && !s.Listen[place].NoHandover
}

// overlapping are the places of listeners whose addresses are those of others, wholly or in part. Whether a config
// with such may be served is for baton to say, but it must say the same each time.
func (s *shape) overlapping() []int {
	var all []int
	for i, a := range s.Listen {
		for _, b := range s.Listen[:i] {
			if a != nil && b != nil && a.overlaps(b) {
				all = append(all, i)
				break
			}
		}
	}
	return all
}

func (l *listener) overlaps(b *listener) bool {
	if l.network() != b.network() || l.Port != b.Port {
		return false
	}
	if l.Host == b.Host {
		return true
	}
	return slices.ContainsFunc(hosts(), func(h string) bool { return l.reaches(h) != apart && b.reaches(h) != apart })
}

func (t target) String() string { return fmt.Sprintf("%s %s:p%d", t.class(), t.Host, t.Port) }

// class is what clients speak.
func (t target) class() string { return t.Transport + "/" + t.Process + "/" + t.Network }

// dial is the target as the load tool wants it.
func (t target) dial(dir string, real ports) string {
	switch t.Network {
	case "unix":
		return fmt.Sprintf("unix:%s/u%d.sock", dir, t.Port)
	case "udp":
		return "udp:" + t.Host + ":" + real[t.Port]
	default:
		return t.Host + ":" + real[t.Port]
	}
}

// wild reports whether the listener has all addresses of the machine, or of a family.
func (l *listener) wild() bool { return l.Host == "" || l.Host == "[::]" || l.Host == "0.0.0.0" }
