package listen

import (
	"cmp"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// Serve is called when workers have come or gone. serving is how many slots from 0 on are served, by their worker or by
// others while it is being replaced; empty are the slots that others serve.
func (s *Set) Serve(serving int, empty []int) {
	s.serving, s.empty = serving, empty
	s.spread()
	s.steer()
}

// spread gives the extra sockets to the workers that do not have them, and those of the empty slots: their queues do
// not wait for the next worker. Workers that are about to drain are among them: they accept until they do.
func (s *Set) spread() {
	for _, k := range s.sockets {
		if !k.extra && !slices.Contains(s.empty, k.Slot) {
			continue
		}
		for w := range s.master.Workers() {
			if !w.Draining && (k.extra || w.Slot != k.Slot) {
				w.add(k)
			}
		}
	}
}

// steer makes the kernel choose among the sockets of the serving slots, or the one that all share.
func (s *Set) steer() {
	if s.serving == 0 {
		return
	}
	for p, all := range s.byPlace() {
		chosen := choose(all, s.serving)
		if len(all) > 1 || all[0].Slot != Shared {
			if err := steerTo(all[0].fd, chosen); err != nil {
				s.master.Warn("steer/"+p.Group+"/"+p.Host, err.Error())
			}
		}
		for i, k := range all {
			s.noteQuiet(k, k.extra && !slices.Contains(chosen, i))
		}
	}
}

// byPlace are the sockets of TCP that listen, in the order in which the kernel counts them.
func (s *Set) byPlace() map[place][]*socket {
	all := map[place][]*socket{}
	for _, k := range s.sockets {
		if k.state == listening && k.fd >= 0 && k.isTCP() {
			all[k.place] = append(all[k.place], k)
		}
	}
	for _, one := range all {
		slices.SortFunc(one, func(a, b *socket) int { return cmp.Compare(a.Order, b.Order) })
	}
	return all
}

// choose returns the places, in the kernel's order, of the sockets that new connections may go to. Where only extra
// sockets are left it is the first one.
func choose(all []*socket, serving int) (chosen []int) {
	for i, k := range all {
		if !k.extra && k.Slot < serving { // Shared is less than any slot
			chosen = append(chosen, i)
		}
	}
	if chosen == nil {
		return []int{0}
	}
	return chosen
}

// handshakeLife is how long a handshake may last: net.ipv4.tcp_synack_retries is 5, which makes 63 seconds.
const handshakeLife = 70 * time.Second

// noteQuiet notes since when a socket gets no new connections, for the next masters as well.
func (s *Set) noteQuiet(k *socket, quiet bool) {
	if quiet == (k.Quiet != 0) {
		return
	}
	k.Quiet = 0
	if quiet {
		k.Quiet = monotime.Now()
	}
	s.update(k)
}

// closeQuiet closes the extra sockets that have got no new connection for the life of a handshake and whose queue is
// empty: so there are not more sockets than the slots of the last minute need.
func (s *Set) closeQuiet(now monotime.Time) (next monotime.Time, closed bool) {
	for _, k := range slices.Clone(s.sockets) {
		due := k.Quiet.Add(handshakeLife)
		switch {
		case !k.extra || k.Quiet == 0 || k.Activated != "":
		case due > now:
			next = monotime.Earliest(next, due)
		case acceptQueue(k.fd) > 0:
			next = monotime.Earliest(next, now.Add(time.Second))
		default:
			s.retire(k)
			closed = true
		}
	}
	return next, closed
}

// retire ends a socket for all processes that hold it. In the kernel's order the last one on the address moves up to
// where it was.
func (s *Set) retire(k *socket) {
	s.sockets = slices.DeleteFunc(s.sockets, func(o *socket) bool { return o == k })
	_ = unix.Shutdown(k.fd, unix.SHUT_RDWR)
	if all := s.byPlace()[k.place]; len(all) > 0 {
		if last := all[len(all)-1]; last.Order > k.Order {
			last.Order = k.Order
			s.update(last)
		}
	}
	for w := range s.master.Workers() {
		_ = w.Conn.Post(wire.RemoveSocket{Key: k.key})
		delete(w.has, k.key)
	}
	s.drop(k)
}
