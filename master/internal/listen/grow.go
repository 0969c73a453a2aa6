package listen

import "slices"

// Grow gives the slots up to n sockets of their own: those that they had, or new ones. They listen at once, but are
// chosen only when their worker serves. After an error there are as many as before; that a listener has failed before
// is none.
func (s *Set) Grow(n int) error {
	before := len(s.sockets)
	if err := s.grow(n); err != nil {
		s.undoGrowth(before)
		return err
	}
	s.cfg.Slots = n
	return nil
}

func (s *Set) grow(n int) error {
	before := len(s.sockets)
	for _, l := range s.cfg.Listeners {
		if err := s.growListener(l, n); err != nil {
			return err
		}
	}
	for _, k := range s.sockets[before:] {
		if k.state != bound {
			continue
		}
		if err := s.listen(k); err != nil && s.failure(k.at()) == nil {
			return err
		} else if err != nil {
			k.fail(err)
		}
	}
	return nil
}

func (s *Set) growListener(l Listener, n int) error {
	a, err := s.resolve(l)
	if err != nil || !l.perSlot(a) {
		return err
	}
	for slot := range n {
		if s.revive(a.key(l.name(), slot)) {
			continue
		}
		if err := s.open(l, a, slot); err != nil {
			return err
		}
	}
	return nil
}

// revive makes an extra socket its slot's again, and reports whether there is one with that key.
func (s *Set) revive(key string) bool {
	i := slices.IndexFunc(s.sockets, func(k *socket) bool { return k.key == key })
	if i >= 0 {
		s.sockets[i].extra = false
	}
	return i >= 0
}

// undoGrowth closes the sockets from the before-th on, and makes those extra again that are of no slot.
func (s *Set) undoGrowth(before int) {
	for _, k := range s.sockets[before:] {
		s.drop(k)
	}
	s.sockets = s.sockets[:before]
	s.Shrink(s.cfg.Slots)
}

// Shrink makes the sockets of the slots from n on extra: the workers that stay accept on them as well, see Serve.
func (s *Set) Shrink(n int) {
	s.cfg.Slots = n
	for _, k := range s.sockets {
		k.extra = k.extra || k.Slot >= n
	}
}

// Needs is how many sockets there are with n slots.
func (s *Set) Needs(n int) int {
	all := len(s.sockets)
	for _, k := range s.sockets {
		if k.Slot == 0 && !k.extra {
			all += n - s.cfg.Slots
		}
	}
	return all
}
