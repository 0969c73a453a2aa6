package worker

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
	"baton/worker/wire"
)

// socket is one that the worker was given. The first to ask for it makes it a listener, or a packetConn.
type socket struct {
	wire.Listener
	fd int // raw, before that; then -1
	ln *listener
	pc *packetConn

	extra []*socket      // additional sockets for the same listener
	all   *multiListener // the listener, with those
}

func (s *socket) name() string    { return s.Name }
func (s *socket) address() string { return s.Address }

func (s *socket) describe() Socket {
	return Socket{
		Key:  handover.Key{Group: s.Group, Process: s.Process, Name: s.Name},
		Name: s.Name, Address: s.Address, Transport: s.Transport, Process: s.Process, Handover: s.Handover,
	}
}

// addSocket takes a socket. An additional one belongs to the listener of its name, and is accepted on at once if that
// is.
func (e *Env) addSocket(l wire.Listener, fd int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !l.Additional {
		e.sockets = append(e.sockets, socket{Listener: l, fd: fd})
		return
	}
	for i := range e.sockets {
		s := &e.sockets[i]
		if s.Name != l.Name || s.Transport != l.Transport || e.ctx.Err() != nil || s.has(l.Key) {
			continue
		}
		x := &socket{Listener: l, fd: fd}
		s.extra = append(s.extra, x)
		if s.all != nil {
			s.all.add(x.listener(e))
		}
		return
	}
	_ = unix.Close(fd) // nobody here serves it, or not any more
}

// has reports whether the socket, or an additional one, has that key.
func (s *socket) has(key string) bool {
	return s.Listener.Key == key || slices.ContainsFunc(s.extra, func(x *socket) bool { return x.Listener.Key == key })
}

// removeSocket closes an additional socket.
func (e *Env) removeSocket(key string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.sockets {
		s := &e.sockets[i]
		s.extra = slices.DeleteFunc(s.extra, func(x *socket) bool {
			if x.Listener.Key != key {
				return false
			}
			if s.all != nil {
				_ = x.ln.Close()
			} else {
				_ = unix.Close(x.fd)
			}
			return true
		})
	}
}

// listenerOf is the listener of a socket and of the additional ones.
func (e *Env) listenerOf(s *socket) *multiListener {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.all == nil {
		s.all = newMultiListener(s.listener(e))
		for _, x := range s.extra {
			s.all.add(x.listener(e))
		}
	}
	return s.all
}

// listener is called with the Env's lock held.
func (s *socket) listener(e *Env) *listener {
	if s.ln == nil {
		balance := e.balance
		if s.Own { // no other worker accepts
			balance = nil
		}
		s.ln, s.fd = newListener(e, s.fd, balance), -1
	}
	return s.ln
}

// unserved is an error if the Worker has asked for fewer sockets than there are: clients would wait there for ever.
func (e *Env) unserved() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return nil
	}
	for _, s := range e.sockets {
		if s.fd >= 0 {
			return fmt.Errorf("the program does not serve listener %s (transport %q, process %q)",
				s.Name, s.Transport, s.Process)
		}
	}
	return nil
}

// drain is called with the Env's lock held. ends are the keys that nobody serves any more; all: nobody serves any.
func (s *socket) drain(ends []string, all bool) {
	for _, x := range s.extra {
		x.drain(ends, all)
	}
	over := all || slices.Contains(ends, cmp.Or(s.At, s.Listener.Key))
	switch {
	case s.ln != nil && all:
		s.ln.drain(true, 0)
	case s.ln != nil:
		s.ln.drain(over, endGrace)
	case s.pc != nil:
		s.pc.drain(over, !all && !s.External)
	case s.fd >= 0:
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}
