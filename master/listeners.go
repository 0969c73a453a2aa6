package master

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"baton/master/internal/sockets"
	"baton/master/keeper"
	"baton/worker/ownfile"
	"baton/worker/wire"
)

// sock is a listening socket as the master holds it: raw, for a poller would take part in every connection's wake-up.
type sock struct {
	Listen
	sockRecord
	key   string
	fd    int
	fresh bool // is to listen after COMMIT

	// extra sockets are those that the configuration has no more use for, but whose address it still serves: of slots
	// that are gone, or of an address within a wider one. All workers accept on them, and so nothing that the kernel
	// still puts there is lost; they are closed when the address leaves the configuration.
	extra bool
}

// sockRecord is the line of data that goes with a socket in the store.
type sockRecord struct {
	Group string `json:"group"`
	Slot  int    `json:"slot"` // or sockets.Shared
	Host  string `json:"host"`
	Order int    `json:"order"` // in which the sockets on this very address have listened, or will
	Made  int    `json:"made"`  // the generation that has made it

	// File is that of a Unix socket which this program has made.
	File wire.Path `json:"file,omitzero"`

	// Passed is systemd's name for a socket of one of its socket units; empty for all that this program has made.
	Passed string `json:"passed,omitempty"`
}

func (s sock) wire() wire.Listener {
	return wire.Listener{
		Key: s.key, Group: s.Group, Name: s.name(), Address: s.Address, Transport: s.transport(), Process: s.Process,
		Handover: !s.NoHandover, Extra: s.extra, Kept: s.Passed != "",
	}
}

// socketsOf are those that the worker in a slot gets: its own and the shared ones, then the extra ones.
func (m *master) socketsOf(slot int) []sock {
	var own, extra []sock
	for _, s := range m.sockets {
		switch {
		case s.extra:
			extra = append(extra, s)
		case s.Slot == sockets.Shared || s.Slot == slot:
			own = append(own, s)
		}
	}
	return append(own, extra...)
}

func (m *master) keysOf(slot int) []string {
	var all []string
	for _, s := range m.socketsOf(slot) {
		all = append(all, s.key)
	}
	return all
}

// hasKey reports whether we have the socket that generation gen has under this key. One that was made later is another one,
// at a path from which somebody has removed the first.
func (m *master) hasKey(key string, gen int) bool {
	for _, s := range m.sockets {
		if s.key == key && s.Made <= gen {
			return true
		}
	}
	return false
}

// openListeners takes the sockets that there are, and binds those that are new. What the config no longer names is
// extra, or is dropped at COMMIT: the old workers still hold it, and end it when its queue is empty.
func (m *master) openListeners() error {
	for _, l := range m.cfg.Listen {
		if err := m.openListener(l); err != nil {
			return err
		}
	}
	for name, it := range m.items {
		if strings.HasPrefix(name, keeper.EntryListen+"/") {
			delete(m.items, name)
			m.leave(strings.TrimPrefix(name, keeper.EntryListen+"/"), it)
		}
	}
	return nil
}

// leave decides about a socket that the config does not name.
func (m *master) leave(key string, it inherited) {
	s := sock{key: key, fd: it.fd, extra: true}
	if wire.Unmarshal([]byte(it.data), &s.sockRecord) == nil && !strings.HasPrefix(s.Group, "udp/") {
		for _, o := range m.sockets {
			if o.Group == s.Group && !o.extra && sockets.Covers(o.Host, s.Host) {
				s.Listen = o.Listen
				m.sockets = append(m.sockets, s)
				return
			}
		}
	}
	_ = m.keeper.Post(wire.Drop{Name: keeper.EntryListen + "/" + key})
	_ = unix.Close(it.fd)
}

// openListener opens the shared socket of l, or one for each slot.
func (m *master) openListener(l Listen) error {
	addr, err := m.resolve(l)
	if err != nil {
		return err
	}
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

// drop closes a socket, here and in the store.
func (m *master) drop(s sock) {
	_ = m.keeper.Post(wire.Drop{Name: keeper.EntryListen + "/" + s.key})
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
	s := sock{Listen: l, key: addr.Key(l.name(), slot), sockRecord: sockRecord{Group: addr.Group(l.name()), Slot: slot, Host: addr.Host()}}
	entry := keeper.EntryListen + "/" + s.key
	if m.inheritSocket(entry, &s) {
		return nil
	}
	if ok, err := m.adoptPassed(l, addr, &s); ok || err != nil {
		if ok {
			m.put(wire.Put{Name: entry}, s.sockRecord, s.fd)
			m.sockets = append(m.sockets, s)
		}
		return err
	}
	fd, err := sockets.Bind(addr, 0o666)
	if errors.Is(err, unix.EADDRINUSE) && m.shareOwn(s.Group) {
		addr.ReusePort = true // the port is ours, in another shape
		fd, err = sockets.Bind(addr, 0o666)
	}
	if err != nil {
		return m.hintPassed(err, s.Group)
	}
	s.fd, s.fresh, s.Order, s.Made = fd, true, m.nextOrder(s.Group, s.Host), m.gen
	if addr.Path != "" {
		s.File, _ = ownfile.At(addr.Path)
	}
	m.put(wire.Put{Name: entry, Unlink: s.File}, s.sockRecord, s.fd)
	m.sockets = append(m.sockets, s)
	return nil
}

// inheritSocket takes s from the store. A Unix socket that is not at its path any more is left to the workers who have it:
// they serve what is in its queue, and a new one is to be made.
func (m *master) inheritSocket(entry string, s *sock) bool {
	it, ok := m.take(entry)
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
	s.fresh = m.welcome.Role == wire.RoleRestart // its master may have died before it listened; twice does no harm
	m.sockets = append(m.sockets, *s)
	return true
}

// shareOwn makes our own sockets on a port share it with a new one. It reports whether there are any.
func (m *master) shareOwn(group string) bool {
	found := false
	share := func(fd int, r sockRecord) {
		if r.Group == group && sockets.ShareAddress(fd) == nil {
			found = true
		}
	}
	for _, s := range m.sockets {
		share(s.fd, s.sockRecord)
	}
	for name, it := range m.items {
		var r sockRecord
		if strings.HasPrefix(name, keeper.EntryListen+"/") && wire.Unmarshal([]byte(it.data), &r) == nil {
			share(it.fd, r)
		}
	}
	return found
}

// listenFresh makes the new sockets listen, in the order of the slots: by that order the steering knows them. Somebody
// may have taken the port in the moment since the bind: then that address is not served, and status says so.
func (m *master) listenFresh() {
	for i, s := range m.sockets {
		if !s.fresh {
			continue
		}
		m.sockets[i].fresh = false
		if s.transport() == "udp" {
			continue
		}
		if err := sockets.Listen(s.fd); err != nil {
			m.warn(fmt.Sprintf("listener %s: %v", s.name(), err))
		}
	}
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
