package main

import (
	"net"
	"slices"
)

// guest is a foreign process, as far as baton is concerned: it listens on one of the walk's ports, and never accepts.
type guest struct {
	listener net.Listener
	as       *listener
}

// occupy takes an address, if nobody has it.
func (w *walk) occupy(host string, port int) {
	w.leave()
	l, err := net.Listen("tcp", host+":"+w.real[port])
	if err == nil {
		w.guest = &guest{l, &listener{Host: host, Port: port, Transport: "tcp"}}
	}
}

// leave gives it back.
func (w *walk) leave() {
	if w.guest != nil {
		w.guest.listener.Close()
		w.guest = nil
	}
}

// meets reports whether a listener of the shape has an address that the guest has.
func (g *guest) meets(s *shape) bool {
	for _, l := range s.Listen {
		if g != nil && l != nil && l.overlaps(g.as) {
			return true
		}
	}
	return false
}

// leaves are the targets that the guest has not taken.
func (g *guest) leaves(all []target) []target {
	return slices.DeleteFunc(all, func(t target) bool { return g != nil && g.as.Port == t.Port && g.as.reaches(t.Host) != apart })
}

// without is the shape without what the guest has taken.
func (g *guest) without(s *shape) *shape {
	s = s.clone()
	for i, l := range s.Listen {
		if g != nil && l != nil && l.overlaps(g.as) {
			s.Listen[i] = nil
		}
	}
	return s
}
