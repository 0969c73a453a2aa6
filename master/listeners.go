package master

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/sockets"
	"baton/master/internal/supervisor"
	"baton/worker/ownfile"
	"baton/worker/wire"
)

// sock is a listening socket as the master holds it: raw, for a poller would take part in every connection's wake-up.
type sock struct {
	Listen
	sockRecord
	key   string
	at    string // the address in it: what the sockets of all slots have in common
	fd    int
	state listenState
	err   error // of the last try to listen, if that has failed

	// extra sockets are those that the configuration has no more use for, but whose address it still serves: of slots
	// that are gone, or of an address within a wider one. All workers accept on them, and so nothing that the kernel
	// still puts there is lost. They are closed when the address leaves the configuration, or see closeQuiet.
	extra bool
}

// sockRecord is the line of data that goes with a socket in the registry.
type sockRecord struct {
	Group string `json:"group"`
	Slot  int    `json:"slot"` // or sockets.Shared
	Host  string `json:"host"`
	Order int    `json:"order"` // in which the sockets on this very address have listened, or will
	Made  int    `json:"made"`  // the generation that has made it

	// File is that of a Unix socket which this program has made.
	File wire.Path `json:"file,omitzero"`

	// Quiet is since when an extra socket gets no new connections; 0: it may get some.
	Quiet monotime.Time `json:"quiet,omitempty"`

	// Passed is systemd's name for a socket of one of its socket units; empty for all that this program has made.
	Passed string `json:"passed,omitempty"`
}

func (s sock) entry() string { return supervisor.EntryListen + "/" + s.key }

func (s sock) isTCP() bool { return strings.HasPrefix(s.Group, "tcp/") }

// address is what the sockets of one listener, of all slots, have in common for the kernel.
func (s sock) address() address { return address{s.Group, s.Host} }

type address struct{ group, host string }

func (s sock) wire() wire.Listener {
	w := wire.Listener{
		Key: s.key, Group: s.Group, Name: s.name(), Address: s.Address, Transport: s.transport(), Process: s.Process,
		Handover: !s.NoHandover, Own: s.Slot != sockets.Shared, Additional: s.extra, External: s.Passed != "",
	}
	if s.at != s.key {
		w.At = s.at
	}
	return w
}

// ownSockets are those that the worker in a slot begins with: its own and the shared ones.
func (m *master) ownSockets(slot int) []sock {
	return slices.DeleteFunc(slices.Clone(m.sockets), func(s sock) bool {
		return s.extra || s.Slot != sockets.Shared && s.Slot != slot
	})
}

// addressesOf are those on which the worker in a slot accepts, as Drain.Ends has them.
func (m *master) addressesOf(slot int) []string {
	var all []string
	for _, s := range m.sockets {
		if s.extra || s.Slot == sockets.Shared || s.Slot == slot {
			all = append(all, s.at)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// serves reports whether we have a socket that generation gen has on this address. One that was made later is another
// one, at a path from which somebody has removed the first.
func (m *master) serves(at string, gen int) bool {
	return slices.ContainsFunc(m.sockets, func(s sock) bool { return s.at == at && s.Made <= gen })
}

// openListeners takes the sockets that there are, and binds those that are new. What the config no longer names is
// extra, or is dropped at COMMIT: the old workers still hold it, and end it when its queue is empty.
func (m *master) openListeners() error {
	addrs, errs := resolveListen(m.cfg.Listen, m.resolve)
	if len(errs) > 0 {
		return errs[0]
	}
	for i, l := range m.cfg.Listen {
		if err := m.openListener(l, addrs[i]); err != nil {
			return err
		}
	}
	for name, it := range m.inherited {
		if key, ok := strings.CutPrefix(name, supervisor.EntryListen+"/"); ok {
			delete(m.inherited, name)
			m.leave(key, it)
		}
	}
	return m.shareOverlaps()
}

// leave decides about a socket that the config does not name.
func (m *master) leave(key string, it entry) {
	s := sock{key: key, fd: it.fd, extra: true, state: listening}
	if wire.Unmarshal([]byte(it.data), &s.sockRecord) == nil && sockets.Listens(it.fd) {
		s.at = strings.TrimSuffix(key, fmt.Sprintf("/%d", s.Slot))
		if o, ok := m.covering(s); ok {
			s.Listen = o.Listen
			m.sockets = append(m.sockets, s)
			return
		}
	}
	m.drop(s)
}

// covering is the socket whose listener serves what comes to an extra one: of those that cover its address the
// narrowest.
func (m *master) covering(s sock) (found sock, ok bool) {
	for _, o := range m.sockets {
		if o.Group != s.Group || o.extra || !sockets.Covers(o.Host, s.Host) {
			continue
		}
		if !ok || sockets.Covers(found.Host, o.Host) {
			found, ok = o, true
		}
	}
	return found, ok
}

// openListener opens the shared socket of l, or one for each slot.
func (m *master) openListener(l Listen, addr sockets.Addr) error {
	if !l.perSlot(addr) {
		return m.openSocket(l, addr, sockets.Shared)
	}
	if err := m.refusePassed(l, addr); err != nil {
		return err
	}
	addr.ReusePort = true
	for slot := range m.want {
		if err := m.openSocket(l, addr, slot); err != nil {
			return err
		}
	}
	return nil
}

// perSlot reports whether each slot has a socket of its own: with TCP only, as the others have one queue for all.
func (l Listen) perSlot(addr sockets.Addr) bool { return l.ReusePort && addr.Network == "tcp" }

// drop closes a socket, here and in the registry.
func (m *master) drop(s sock) {
	_ = m.supervisor.Post(message.Drop{Name: s.entry()})
	_ = unix.Close(s.fd)
}

// resolve finds out where l is, once for all masters of a configuration: a name may mean something else by now.
func (m *master) resolve(l Listen) (sockets.Addr, error) {
	address := l.Address
	if found, ok := m.resolved[address]; ok {
		address = found
	}
	addr, err := sockets.Resolve(address, l.transport(), m.dir)
	if err == nil {
		m.resolved[l.Address] = addr.String()
	}
	return addr, err
}

func (m *master) openSocket(l Listen, addr sockets.Addr, slot int) error {
	s := sock{
		Listen: l, key: addr.Key(l.name(), slot), at: addr.Key(l.name(), sockets.Shared),
		sockRecord: sockRecord{Group: addr.Group(l.name()), Slot: slot, Host: addr.Host()},
	}
	if m.inheritSocket(&s) {
		return nil
	}
	ok, err := m.adoptPassed(l, addr, &s)
	switch {
	case err != nil:
		return err
	case !ok:
		if s.fd, err = m.bind(addr, s.address()); err != nil {
			return m.hintPassed(err, s.Group)
		}
		s.Order, s.Made = m.nextOrder(s.address()), m.gen
		if addr.Path != "" {
			s.File, _ = ownfile.At(addr.Path)
		}
	}
	if addr.Network != "tcp" || ok {
		s.state = listening
	}
	m.put(message.Put{Name: s.entry(), Unlink: s.File}, s.sockRecord, s.fd)
	m.sockets = append(m.sockets, s)
	return nil
}

// inheritSocket takes s from the registry. A Unix socket that is not at its path any more is left to the workers who
// have it: they serve what is in its queue, and a new one is to be made.
func (m *master) inheritSocket(s *sock) bool {
	it, ok := m.claim(s.entry())
	if !ok {
		return false
	}
	var r sockRecord
	if wire.Unmarshal([]byte(it.data), &r) == nil {
		s.Order, s.Passed, s.Made, s.File = r.Order, r.Passed, r.Made, r.File
	}
	if s.File != (wire.Path{}) && !m.stands(s.File) {
		_ = unix.Close(it.fd)
		return false
	}
	s.fd = it.fd
	if strings.HasPrefix(s.Group, "udp/") || sockets.Listens(s.fd) {
		s.state = listening
	}
	if made := madeIn(s.Made, m.gen); made != s.Made {
		s.Made = made
		m.put(message.Put{Name: s.entry()}, s.sockRecord, -1)
	}
	m.sockets = append(m.sockets, *s)
	return true
}

// madeIn is the generation that has made a socket, to a master of generation gen: one of another life of the program,
// whose sockets systemd has kept, is before all generations of this one.
func madeIn(made, gen int) int {
	if made > gen {
		return 0
	}
	return made
}

// A reload that finds an address taken tries again for so long, and so often: workers of an earlier generation go on accepting
// for a moment on one that has left the configuration, and it may be back already. Nobody says when they have closed it.
const (
	bindLimit = time.Second
	bindPause = 10 * time.Millisecond
)

// bind takes an address: first as if we had nothing there, so that somebody else's socket is noticed.
func (m *master) bind(addr sockets.Addr, at address) (int, error) {
	for end := time.Now().Add(bindLimit); ; time.Sleep(bindPause) {
		fd, err := sockets.Bind(addr, 0o666)
		if errors.Is(err, unix.EADDRINUSE) && m.shareOwn(at) {
			addr.ReusePort = true // the port is ours, in another shape
			fd, err = sockets.Bind(addr, 0o666)
		}
		if !errors.Is(err, unix.EADDRINUSE) || m.attempt == "" || time.Now().After(end) {
			return fd, err
		}
	}
}

// shareOwn makes our own sockets share their port with a new one on an address that overlaps with theirs. It reports
// whether there are any.
func (m *master) shareOwn(at address) bool {
	found := false
	share := func(fd int, r sockRecord) {
		if r.Group == at.group && sockets.RelateHosts(r.Host, at.host) != sockets.Apart && sockets.ShareAddress(fd) == nil {
			found = true
		}
	}
	for _, s := range m.sockets {
		share(s.fd, s.sockRecord)
	}
	m.eachInherited(share)
	return found
}

// eachInherited calls f for the sockets in the registry that no listener has taken yet.
func (m *master) eachInherited(f func(fd int, r sockRecord)) {
	for name, it := range m.inherited {
		var r sockRecord
		if strings.HasPrefix(name, supervisor.EntryListen+"/") && wire.Unmarshal([]byte(it.data), &r) == nil {
			f(it.fd, r)
		}
	}
}

// shareOverlaps makes the sockets of overlapping addresses share their port, so that all of them can listen.
func (m *master) shareOverlaps() error {
	hosts := map[string]map[string]bool{}
	for _, s := range m.sockets {
		if hosts[s.Group] == nil {
			hosts[s.Group] = map[string]bool{}
		}
		hosts[s.Group][s.Host] = true
	}
	for _, s := range m.sockets {
		for host := range hosts[s.Group] {
			if !sockets.Overlap(host, s.Host) {
				continue
			}
			if err := sockets.ShareAddress(s.fd); err != nil {
				return fmt.Errorf("listen %s: %w", s.name(), err)
			}
			break
		}
	}
	return nil
}

// closeListeners gives up this process's hold on the sockets.
func (m *master) closeListeners() {
	for i, s := range m.sockets {
		if s.fd >= 0 {
			_ = unix.Close(s.fd)
			m.sockets[i].fd = -1
		}
	}
}
