package listen

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// activated is a socket of a systemd socket unit. A listener gets a duplicate of the descriptor.
type activated struct {
	name string // systemd's
	fd   int
	addr Addr
}

// Activate adds a socket of a systemd socket unit under systemd's name for it, before Open.
func (s *Set) Activate(name string, fd int) {
	a := activated{name, fd, AddrOf(fd)}
	if filepath.IsAbs(a.addr.path) {
		a.addr.path = realPath(a.addr.path)
	}
	s.activated = append(s.activated, a)
	slices.SortFunc(s.activated, func(a, b activated) int { return cmp.Compare(a.fd, b.fd) })
}

// is reports whether the socket has the address b. Port 0 is any port. Whether an IPv6 wildcard is IPv4 as well is left
// to the socket unit.
func (a activated) is(b Addr) bool {
	anyPort := b.isFree() && a.addr.network == b.network && a.addr.ip.Addr() == b.ip.Addr()
	return a.addr == b || anyPort
}

func (a activated) String() string { return fmt.Sprintf("%q, a %s", a.name, a.addr.describe()) }

// findActivated returns the socket that was activated for l: the one of its name and address, else one of its address,
// since by default systemd's name is that of the socket unit; nil if there is none. A socket of its name that is not
// what the configuration says is a mistake, in one of the two files.
func (s *Set) findActivated(l listener) (found *activated, err error) {
	for i, a := range s.activated {
		switch {
		case a.name == l.Name && a.is(l.addr):
			return &s.activated[i], nil
		case a.addr == l.addr && found == nil:
			found = &s.activated[i]
		case a.name == l.Name && err == nil:
			err = l.mistake("systemd has passed a %s of that name, and the configuration says %s %s; "+
				"change one of the two", a.addr.describe(), l.Transport, l.addr)
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, err
}

func (l listener) mistake(format string, args ...any) error {
	return &Error{Name: l.Name, Err: fmt.Errorf(format, args...)}
}

// adopt makes k of an activated socket, if there is one for it.
func (s *Set) adopt(k *socket) (ok bool, err error) {
	a, err := s.findActivated(k.listener)
	if a == nil {
		return false, err
	}
	if k.fd, err = rawfd.Dup(a.fd); err != nil {
		return false, fmt.Errorf("listen %s: %w", k.Name, err)
	}
	k.Activated = a.name
	return true, nil
}

// refuseActivated is the error of a listener that wants a socket for each worker where systemd has passed one.
func (s *Set) refuseActivated(l listener) error {
	a, err := s.findActivated(l)
	if a == nil {
		return err
	}
	return l.mistake("reuse_port takes a socket for each worker, and systemd has passed one, %q; "+
		"leave out reuse_port, or the socket unit", a.name)
}

// hintActivated adds to an address that is taken that systemd has it.
func (s *Set) hintActivated(err error, group string) error {
	i := slices.IndexFunc(s.activated, func(a activated) bool { return a.addr.place("").Group == group })
	if i < 0 || !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	return fmt.Errorf("%w: systemd has passed %v", err, s.activated[i])
}

// Unused says for each activated socket that the configuration has no use for it. The next one may.
func (s *Set) Unused() (all []string) {
	for _, a := range s.activated {
		adopted := func(k *socket) bool { return k.Activated != "" && AddrOf(k.fd) == AddrOf(a.fd) }
		if !slices.ContainsFunc(s.sockets, adopted) {
			all = append(all, fmt.Sprintf("systemd has passed %v, and no [[listen]] has that name or address: "+
				"what comes there waits", a))
		}
	}
	return all
}
