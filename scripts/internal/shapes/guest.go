package main

import (
	"io"
	"net"
	"os"
	"slices"
)

// guest is a foreign process, as far as baton is concerned: it has one of the walk's ports, or the path of a Unix
// socket, and answers nobody.
type guest struct {
	io.Closer
	as   *listener
	path string      // of a Unix socket
	made os.FileInfo // what the guest has put there
}

// visitor is the listener that a guest is.
func (p step) visitor() *listener {
	return (&listener{Host: p.Host, Port: p.Port, Transport: p.What}).valid()
}

// occupy takes an address, if nobody has it.
func (w *walk) occupy(as *listener) {
	w.leave()
	g := &guest{as: as}
	var err error
	switch as.network() {
	case "unix":
		g.path = w.path(as.address(w.real)[len("unix:"):])
		var l *net.UnixListener
		if l, err = net.ListenUnix("unix", &net.UnixAddr{Name: g.path}); err == nil {
			l.SetUnlinkOnClose(false)
			g.Closer = l
			g.made, err = os.Lstat(g.path)
		}
	case "udp":
		g.Closer, err = net.ListenPacket("udp", as.address(w.real))
	default:
		g.Closer, err = net.Listen("tcp", as.address(w.real))
	}
	if err == nil {
		w.guest = g
	}
}

// leave gives it back. Nobody else may have removed it.
func (w *walk) leave() {
	g := w.guest
	if g == nil {
		return
	}
	w.guest = nil
	g.Close()
	if g.path == "" {
		return
	}
	if is, err := os.Lstat(g.path); err != nil || !os.SameFile(is, g.made) {
		w.findf("a foreign file", "%s is not what somebody else has put there: %v", g.path, err)
		return
	}
	_ = os.Remove(g.path)
}

// has reports whether the guest has made a file.
func (g *guest) has(path string) bool { return g != nil && g.path == path }

// meets reports whether a listener of the shape has an address that the guest has.
func (g *guest) meets(s *shape) bool {
	return slices.ContainsFunc(s.Listen[:], func(l *listener) bool { return g != nil && l != nil && l.overlaps(g.as) })
}

// leaves are the targets that the guest has not taken.
func (g *guest) leaves(all []target) []target {
	return slices.DeleteFunc(all, func(t target) bool {
		return g != nil && g.as.network() == t.Network && g.as.Port == t.Port && g.as.reaches(t.Host) != apart
	})
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
