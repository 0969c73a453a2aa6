package master

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"baton/master/internal/sockets"
	"baton/master/internal/supervisor"
	"baton/worker/rawfd"
)

// passedSocket is a socket of a systemd socket unit. Its descriptor stays among the items: the listener gets a duplicate.
type passedSocket struct {
	supervisor.Passed
	sockets.Made
	fd int
}

// passedSockets lists them, in the same order every time.
func (m *master) passedSockets() []passedSocket {
	var all []passedSocket
	for name, it := range m.inherited {
		if !strings.HasPrefix(name, supervisor.EntryPassed+"/") {
			continue
		}
		p := passedSocket{Made: sockets.Inspect(it.fd), fd: it.fd}
		if err := json.Unmarshal([]byte(it.data), &p.Passed); err != nil {
			m.log.Error("master: passed socket", "entry", name, "error", err)
			continue
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b passedSocket) int { return cmp.Compare(a.fd, b.fd) })
	return all
}

// findPassed returns the socket that was passed for l: the one of its name and address, else one of its address, since by
// default systemd's name is that of the socket unit. A socket of its name that is not what the configuration says is a
// mistake, in one of the two files.
func (m *master) findPassed(l Listen, addr sockets.Addr) (found passedSocket, ok bool, err error) {
	for _, p := range m.passedSockets() {
		named := l.Name != "" && p.Name == l.Name
		switch {
		case p.Has(addr) && (named || !ok && addr.Group(l.name()) == p.Group()):
			found, ok = p, true
			if named {
				return found, true, nil
			}
		case named && err == nil:
			err = userError(fmt.Sprintf("listen %s: systemd has passed a %v of that name, and the configuration says %s %s; change one of the two",
				l.Name, p.Made, l.transport(), addr))
		}
	}
	if ok {
		return found, true, nil
	}
	return found, false, err
}

// adoptPassed makes a listener of a passed socket, if there is one for l.
func (m *master) adoptPassed(l Listen, addr sockets.Addr, s *sock) (ok bool, err error) {
	p, ok, err := m.findPassed(l, addr)
	if !ok || err != nil {
		return false, err
	}
	if s.fd, err = rawfd.Dup(p.fd); err != nil {
		return false, fmt.Errorf("listen %s: %w", l.name(), err)
	}
	s.Passed = p.Name
	return true, nil
}

// refusePassed is the error of a listener that wants a socket for each worker where systemd has passed one.
func (m *master) refusePassed(l Listen, addr sockets.Addr) error {
	p, ok, err := m.findPassed(l, addr)
	if !ok || err != nil {
		return err
	}
	return userError(fmt.Sprintf("listen %s: reuse_port takes a socket for each worker, and systemd has passed one, %q; "+
		"leave out reuse_port, or the socket unit", l.name(), p.Name))
}

// hintPassed adds to an address that is taken that systemd has it.
func (m *master) hintPassed(err error, group string) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	for _, p := range m.passedSockets() {
		if p.Group() == group {
			return fmt.Errorf("%w: systemd has passed %q, a %v", err, p.Name, p.Made)
		}
	}
	return err
}

// warnUnused names the passed descriptors that the configuration has no use for. The supervisor keeps them for one that has.
func (m *master) warnUnused() {
	for _, p := range m.passedSockets() {
		if !slices.ContainsFunc(m.sockets, func(s sock) bool { return s.Passed != "" && p.sameAs(s.fd) }) {
			m.warn(fmt.Sprintf("systemd has passed %q, a %v, and no [[listen]] has that name or address: what comes there waits", p.Name, p.Made))
		}
	}
}

func (p passedSocket) sameAs(fd int) bool {
	var a, b unix.Stat_t
	return unix.Fstat(p.fd, &a) == nil && unix.Fstat(fd, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}
