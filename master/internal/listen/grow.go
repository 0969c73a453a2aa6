package listen

// Grow gives the slots up to n sockets of their own: those that they had, or new ones. They listen at once, but are
// chosen only when their worker serves. After an error there are as many as before; that a listener has failed before
// is none.
func (s *Set) Grow(n int) error {
	before := len(s.sockets)
	err := s.openMore(n)
	if err == nil {
		err = s.listenMore(s.sockets[before:])
	}
	if err != nil {
		for _, k := range s.sockets[before:] {
			s.drop(k)
		}
		s.sockets = s.sockets[:before]
		n = s.cfg.Slots
	}
	s.Shrink(n)
	return err
}

func (s *Set) openMore(n int) error {
	for _, l := range s.listeners {
		if err := s.open(l, n); err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) listenMore(all []*socket) error {
	for _, k := range all {
		if k.state != bound {
			continue
		}
		if err := s.listen(k); err != nil {
			if s.failure(k.at()) == nil {
				return err
			}
			k.fail(err)
		}
	}
	return nil
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
	for _, l := range s.listeners {
		if l.perSlot() {
			all += n - s.cfg.Slots
		}
	}
	return all
}
