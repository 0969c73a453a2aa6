package master

import (
	"slices"
	"strings"

	"baton/master/internal/sockets"
	"baton/master/keeper"
	"baton/worker/wire"
)

// With reuse_port every slot has a socket of its own, which the worker in that slot accepts on, in every generation.
// The kernel spreads new connections over all of them, so the number of those that it may choose from is steered: a
// socket takes part when its worker serves, and no longer when its slot is to go. None is closed for a resize: handshakes
// that have begun end where they were, so somebody goes on accepting there.

// steering is which of the sockets on an address the kernel is to choose from, in the order in which they have listened.
type steering struct{ base, n int }

// steer makes the kernel choose among the sockets of the slots from 0 on whose workers serve, or the one that all share.
func (m *master) steer() {
	serving := m.servingSlots()
	if serving == 0 {
		return
	}
	for _, s := range m.sockets {
		if s.extra || s.fd < 0 || s.Slot > 0 {
			continue
		}
		before, all := m.onAddress(s)
		to := steering{base: before, n: serving}
		if s.Slot == sockets.Shared {
			to.n = 1
		}
		if all == 1 && s.Slot == sockets.Shared || m.steered[s.key] == to {
			continue
		}
		m.steered[s.key] = to
		if err := sockets.SteerFrom(s.fd, to.base, to.n); err != nil {
			m.warnOf("steer/"+s.key, err.Error())
		}
	}
}

// onAddress counts the sockets on the very address of s, and those of them that have listened before s.
func (m *master) onAddress(s sock) (before, all int) {
	for _, o := range m.sockets {
		if o.Group != s.Group || o.Host != s.Host {
			continue
		}
		all++
		if o.Order < s.Order {
			before++
		}
	}
	return before, all
}

// nextOrder is the place of a new socket among those on its address.
func (m *master) nextOrder(group, host string) int {
	next := 0
	see := func(r sockRecord) {
		if r.Group == group && r.Host == host {
			next = max(next, r.Order+1)
		}
	}
	for _, s := range m.sockets {
		see(s.sockRecord)
	}
	for name, it := range m.items {
		var r sockRecord
		if strings.HasPrefix(name, keeper.EntryListen+"/") && wire.Unmarshal([]byte(it.data), &r) == nil {
			see(r)
		}
	}
	return next
}

// servingSlots is how many slots from 0 on have a worker with GO, or others that accept for the one that has crashed.
func (m *master) servingSlots() int {
	serving := m.slotsWithGO()
	n := 0
	for n < m.want && (serving[n] || m.crashes.had(n)) {
		n++
	}
	return n
}

func (m *master) slotsWithGO() map[int]bool {
	serving := map[int]bool{}
	for _, p := range m.procs {
		if p.gen == m.gen && p.state == procServing {
			serving[p.slot] = true
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
	m.listenFresh()
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
	for i, s := range m.sockets {
		if s.key == key {
			m.sockets[i].extra = false
			return true
		}
	}
	return false
}

// shrinkSockets makes the sockets of the slots from n on extra: the workers that stay accept on them as well.
func (m *master) shrinkSockets(n int) {
	for i, s := range m.sockets {
		if s.Slot < n || s.extra {
			continue
		}
		m.sockets[i].extra = true
		m.acceptAlso(m.sockets[i], func(slot int) bool { return slot < n })
	}
}

// acceptAlso gives a socket to those workers of this generation that do not have it.
func (m *master) acceptAlso(s sock, to func(slot int) bool) {
	w := s.wire()
	w.Extra = true
	for _, p := range m.procs {
		if p.gen != m.gen || p.state == procDraining || !to(p.slot) || slices.Contains(p.record.Listeners, s.key) {
			continue
		}
		if p.conn.Post(wire.AcceptAlso{Listener: w}, s.fd) == nil {
			p.record.Listeners = append(p.record.Listeners, s.key)
			m.store(keeper.WorkerEntry(p.pid), p.record, -1)
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
		if m.crashes.had(slot) && !serving[slot] {
			m.coverSlot(slot)
		}
	}
}
