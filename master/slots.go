package master

import (
	"cmp"
	"fmt"
	"slices"

	"baton/master/internal/plan"
	"baton/master/internal/sockets"
	"baton/worker/wire"
)

// With reuse_port every slot has a socket of its own, which the worker in that slot accepts on, in every generation.
// The kernel spreads new connections over all of them, so the number of those that it may choose from is steered: a
// socket takes part when its worker serves, and no longer when its slot is to go. None is closed for a resize:
// handshakes that have begun end where they were, so somebody goes on accepting there.

// steer makes the kernel choose among the sockets of the slots from 0 on whose workers serve, or the one that all
// share. Of an address of which only extra sockets are left it is the first one.
func (m *master) steer() {
	serving := m.servingSlots()
	if serving == 0 {
		return
	}
	for a, all := range m.listeningByAddress() {
		chosen := chooseSockets(all, serving)
		if len(all) > 1 || all[0].Slot != sockets.Shared {
			m.steerTo(a, all, chosen)
		}
		for i, s := range all {
			m.noteQuiet(s, s.extra && !slices.Contains(chosen, i))
		}
	}
}

// listeningByAddress are the sockets of TCP that listen, in the order in which the kernel counts them.
func (m *master) listeningByAddress() map[address][]*sock {
	all := map[address][]*sock{}
	for i := range m.sockets {
		if s := &m.sockets[i]; s.state == listening && s.fd >= 0 && s.isTCP() {
			all[s.address()] = append(all[s.address()], s)
		}
	}
	for _, one := range all {
		slices.SortFunc(one, func(a, b *sock) int { return cmp.Compare(a.Order, b.Order) })
	}
	return all
}

// chooseSockets are the places of those that new connections may go to.
func chooseSockets(all []*sock, serving int) (chosen []int) {
	for i, s := range all {
		if !s.extra && s.Slot < serving { // Shared is less than any slot
			chosen = append(chosen, i)
		}
	}
	if chosen == nil {
		return []int{0}
	}
	return chosen
}

// steerTo gives the kernel the chosen places, unless it has them.
func (m *master) steerTo(a address, all []*sock, chosen []int) {
	want := fmt.Sprint(len(all), chosen)
	if m.steered[a] == want {
		return
	}
	m.steered[a] = want
	if err := sockets.SteerTo(all[0].fd, chosen); err != nil {
		m.warnOf("steer/"+a.group+"/"+a.host, err.Error())
	}
}

// nextOrder is the place of a new socket among those on its address.
func (m *master) nextOrder(a address) int {
	next := 0
	see := func(_ int, r sockRecord) {
		if r.Group == a.group && r.Host == a.host {
			next = max(next, r.Order+1)
		}
	}
	for _, s := range m.sockets {
		see(s.fd, s.sockRecord)
	}
	m.eachInherited(see)
	return next
}

// servingSlots is how many slots from 0 on have a worker with GO, or others that accept for the one that has crashed.
func (m *master) servingSlots() int {
	serving := m.slotsWithGO()
	n := 0
	for n < m.want && (serving[n] || m.crashes.Count(n) > 0) {
		n++
	}
	return n
}

func (m *master) slotsWithGO() map[int]bool {
	serving := map[int]bool{}
	for _, p := range m.procs {
		if p.Generation == m.gen && p.State == plan.Serving {
			serving[p.Slot] = true
		}
	}
	return serving
}

// growSockets gives the slots up to n sockets of their own: those that they had, or new ones. They listen at once, but
// are chosen only when their worker serves. After an error there are as many as before.
func (m *master) growSockets(n int) error {
	before := len(m.sockets)
	for _, l := range m.cfg.Listen {
		if err := m.growListener(l, n); err != nil {
			m.undoGrowth(before)
			return err
		}
	}
	for i := range m.sockets[before:] {
		if err := m.startListening(&m.sockets[before+i]); err != nil {
			m.undoGrowth(before)
			return err
		}
	}
	return nil
}

func (m *master) growListener(l Listen, n int) error {
	addr, err := m.resolve(l)
	if err != nil || !l.perSlot(addr) {
		return err
	}
	addr.ReusePort = true
	for slot := range n {
		if m.reviveSocket(addr.Key(l.name(), slot)) {
			continue
		}
		if err := m.openSocket(l, addr, slot); err != nil {
			return err
		}
	}
	return nil
}

// undoGrowth closes the sockets from the before-th on, and makes those extra again that are of no slot.
func (m *master) undoGrowth(before int) {
	for _, s := range m.sockets[before:] {
		m.drop(s)
	}
	m.sockets = m.sockets[:before]
	for i, s := range m.sockets {
		m.sockets[i].extra = s.extra || s.Slot >= m.want
	}
}

// reviveSocket makes an extra socket its slot's again, and reports whether there is one with that key.
func (m *master) reviveSocket(key string) bool {
	for i := range m.sockets {
		if s := &m.sockets[i]; s.key == key {
			s.extra = false
			return true
		}
	}
	return false
}

// shrinkSockets makes the sockets of the slots from n on extra: the workers that stay accept on them as well.
func (m *master) shrinkSockets(n int) {
	for i := range m.sockets {
		if s := &m.sockets[i]; s.Slot >= n {
			s.extra = true
		}
	}
	m.shareExtra()
}

// shareExtra gives the extra sockets to the workers that do not have them. Those of slots that are about to go are
// among them: they accept until they drain.
func (m *master) shareExtra() {
	for _, s := range m.sockets {
		if s.extra {
			m.acceptAlso(s, func(int) bool { return true })
		}
	}
}

// acceptAlso gives a socket to those workers of this generation that do not have it. One that was adopted may have
// it: it knows.
func (m *master) acceptAlso(s sock, to func(slot int) bool) {
	w := s.wire()
	w.Additional = true
	for _, p := range m.procs {
		if p.Generation != m.gen || p.State == plan.Draining || !to(p.Slot) || p.given[s.key] {
			continue
		}
		if p.conn.Post(wire.AddSocket{Listener: w}, s.fd) == nil {
			p.give(s.key)
		}
	}
}

// coverSlot makes the others accept on the sockets of a slot whose worker has crashed: its queue does not wait for the
// next worker.
func (m *master) coverSlot(slot int) {
	for _, s := range m.sockets {
		if s.Slot == slot && !s.extra {
			m.acceptAlso(s, func(other int) bool { return other != slot })
		}
	}
}

// coverEmpty does the same for all slots that are empty after a crash: a worker that was started since knows nothing of
// them.
func (m *master) coverEmpty() {
	serving := m.slotsWithGO()
	for slot := range m.want {
		if m.crashes.Count(slot) > 0 && !serving[slot] {
			m.coverSlot(slot)
		}
	}
}
