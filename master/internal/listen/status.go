package listen

import (
	"slices"

	"baton/master/internal/status"
	"baton/worker/wire"
)

// Status is what is to be said of each listener.
func (s *Set) Status() (all []status.Listener) {
	for _, k := range s.sockets {
		if !k.isOf(0) {
			continue
		}
		st := status.Listener{Name: k.Name, Address: Local(k.fd), State: "listening"}
		if err := s.failure(k.at()); err != nil {
			st.State, st.Error = "failed", err.Error()
		}
		all = append(all, st)
	}
	return all
}

// Files are those of the Unix sockets that this program has made.
func (s *Set) Files() (all []wire.Path) {
	for _, k := range s.sockets {
		if k.File != (wire.Path{}) {
			all = append(all, k.File)
		}
	}
	return all
}

// Addresses are those on which the worker in a slot accepts, as wire.Drain.Ends has them.
func (s *Set) Addresses(slot int) (all []string) {
	for _, k := range s.sockets {
		if k.extra || k.isOf(slot) {
			all = append(all, k.at())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Ended are those of the addresses that are not served any more, as a worker of generation gen knows them. A socket
// that was made after gen is another one, at a path from which somebody has removed the first.
func (s *Set) Ended(addresses []string, gen int) []string {
	return slices.DeleteFunc(slices.Clone(addresses), func(at string) bool {
		return slices.ContainsFunc(s.sockets, func(k *socket) bool { return k.at() == at && k.Generation <= gen })
	})
}
