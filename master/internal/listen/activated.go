package listen

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// Activated is a socket of a systemd socket unit, under systemd's name. A listener gets a duplicate of the descriptor.
type Activated struct {
	Name string
	FD   int
}

func (a Activated) addr() Addr {
	addr := AddrOf(a.FD)
	if filepath.IsAbs(addr.path) {
		addr.path = realPath(addr.path)
	}
	return addr
}

// is reports whether the socket has the address b. Port 0 is any port. Whether an IPv6 wildcard is IPv4 as well is left
// to the socket unit.
func (a Activated) is(b Addr) bool {
	addr := a.addr()
	sameHost := b.isFree() && addr.network == b.network && addr.ip.Addr() == b.ip.Addr()
	return addr == b || sameHost
}

// isAt reports whether the socket is on the port of a group, or at its path.
func (a Activated) isAt(group string) bool { return a.addr().place("").Group == group }

func (a Activated) String() string { return fmt.Sprintf("%q, a %s", a.Name, a.addr().describe()) }

// findActivated returns the socket that was activated for l: the one of its name and address, else one of its address,
// since by default systemd's name is that of the socket unit. A socket of its name that is not what the configuration
// says is a mistake, in one of the two files.
func (s *Set) findActivated(l Listener, addr Addr) (found Activated, ok bool, err error) {
	for _, a := range s.cfg.Activated {
		named := l.Name != "" && a.Name == l.Name
		switch {
		case named && a.is(addr):
			return a, true, nil
		case !ok && a.is(addr) && a.isAt(addr.place(l.name()).Group):
			found, ok = a, true
		case named && err == nil:
			err = mistake(fmt.Sprintf("listen %s: systemd has passed a %s of that name, and the configuration says %s %s; "+
				"change one of the two", l.Name, a.addr().describe(), l.transport(), addr))
		}
	}
	if ok {
		return found, true, nil
	}
	return found, false, err
}

// adopt makes k of an activated socket, if there is one for it.
func (s *Set) adopt(k *socket) (ok bool, err error) {
	a, ok, err := s.findActivated(k.Listener, k.addr)
	if !ok || err != nil {
		return false, err
	}
	if k.fd, err = rawfd.Dup(a.FD); err != nil {
		return false, fmt.Errorf("listen %s: %w", k.name(), err)
	}
	k.Activated = a.Name
	k.look()
	return true, nil
}

// refuseActivated is the error of a listener that wants a socket for each worker where systemd has passed one.
func (s *Set) refuseActivated(l Listener, addr Addr) error {
	a, ok, err := s.findActivated(l, addr)
	if !ok || err != nil {
		return err
	}
	return mistake(fmt.Sprintf("listen %s: reuse_port takes a socket for each worker, and systemd has passed one, %q; "+
		"leave out reuse_port, or the socket unit", l.name(), a.Name))
}

// hintActivated adds to an address that is taken that systemd has it.
func (s *Set) hintActivated(err error, group string) error {
	i := slices.IndexFunc(s.cfg.Activated, func(a Activated) bool { return a.isAt(group) })
	if i < 0 || !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	return fmt.Errorf("%w: systemd has passed %v", err, s.cfg.Activated[i])
}

// Unused says for each activated descriptor that the configuration has no use for it. The next one may.
func (s *Set) Unused() (all []string) {
	for _, a := range s.cfg.Activated {
		if !slices.ContainsFunc(s.sockets, func(k *socket) bool { return k.Activated != "" && sameSocket(a.FD, k.fd) }) {
			all = append(all, fmt.Sprintf("systemd has passed %v, and no [[listen]] has that name or address: "+
				"what comes there waits", a))
		}
	}
	return all
}

func sameSocket(fd, other int) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Fstat(other, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}
