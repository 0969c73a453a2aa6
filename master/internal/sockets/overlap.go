package sockets

import "strings"

// Relation is what two addresses have in common.
type Relation uint8

const (
	Apart    Relation = iota // nothing: who connects to the one cannot mean the other
	Same                     // everything: only one socket, or one set of sockets, can have it
	Wider                    // the first covers the second, and gets what the second does not
	Narrower                 // the second covers the first
)

// Relate is the one place that decides whether two addresses overlap, for check, start and reload alike. Sockets of
// this program whose addresses are Wider and Narrower can listen beside each other if they share the port, see
// [ShareAddress]; the kernel then gives a connection to the one with the narrowest address that it fits.
//
// TLS is TCP. With port 0 the kernel chooses a port for each, so that two of them have nothing in common.
func Relate(a, b Addr) Relation {
	switch {
	case a.Network != b.Network:
		return Apart
	case a.Network == "unix":
		if a.Path == b.Path {
			return Same
		}
		return Apart
	case a.port != b.port, a.port == 0:
		return Apart
	}
	return RelateHosts(a.host, b.host)
}

// RelateHosts is [Relate] for hosts of one port, as [Addr.Host] gives them: "::" is every address of both families,
// "0.0.0.0" every one of IPv4.
func RelateHosts(a, b string) Relation {
	switch {
	case a == b:
		return Same
	case covers(a, b):
		return Wider
	case covers(b, a):
		return Narrower
	}
	return Apart
}

func covers(a, b string) bool { return a == "::" || a == "0.0.0.0" && !strings.Contains(b, ":") }

// Covers reports whether whoever connects to host b may as well reach a socket on host a.
func Covers(a, b string) bool {
	r := RelateHosts(a, b)
	return r == Same || r == Wider
}

// Overlap reports whether sockets on both hosts of one port must share it.
func Overlap(a, b string) bool {
	r := RelateHosts(a, b)
	return r == Wider || r == Narrower
}
