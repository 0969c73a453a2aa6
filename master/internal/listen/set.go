package listen

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/backoff"
	"baton/master/internal/monotime"
	"baton/worker/ownfile"
	"baton/worker/wire"
)

// Set is the listening sockets of a generation. The zero value holds none.
type Set struct {
	// Resolved are the addresses as they are written and as they were found. A restarted master sets it before Open.
	Resolved map[string]string

	cfg       Config
	master    Master
	sockets   []*socket
	inherited map[string]inherited // that no listener has claimed yet
	serving   int                  // see Serve
	empty     []int
	steered   map[place]string // what the kernel was told last
	retries   backoff.Backoff
	retryAt   monotime.Time // when failed sockets are tried again; 0: there are none
}

// Config is what a Set opens.
type Config struct {
	Listeners  []Listener
	Slots      int
	Generation int
	Dir        string // where relative paths begin
	Reload     bool   // workers of other generations may hold an address for a moment yet
	Restart    bool   // the workers serve: no file is made anew

	Inherited []Inherited
	Activated []Activated
}

// Inherited is a socket of the registry.
type Inherited struct {
	Key, Data string
	FD        int
}

// Registry outlives the master: it has what the next one must know.
type Registry interface {
	// Put sets the data under a key, and unless fd is -1 the descriptor: a duplicate of it. file goes with the entry,
	// unless it is zero.
	Put(key string, data any, fd int, file wire.Path)
	// Drop removes an entry.
	Drop(key string)
}

// Master is what a Set needs of its owner.
type Master interface {
	Registry
	// Workers yields the workers of this generation.
	Workers() iter.Seq[*Worker]
	// Warn says that something is wrong with what key stands for.
	Warn(key, text string)
	// Unwarn ends a warning, and says so if there was one.
	Unwarn(key, msg string, args ...any)
}

type inherited struct {
	record
	fd int
}

// Open takes the inherited sockets that the configuration names, and binds those that are new. Others are extra, or are
// dropped at COMMIT: the old workers still hold them, and end them when their queues are empty.
func (s *Set) Open(m Master, cfg Config) error {
	s.master, s.cfg, s.steered, s.inherited = m, cfg, map[place]string{}, map[string]inherited{}
	if s.Resolved == nil {
		s.Resolved = map[string]string{}
	}
	for _, in := range cfg.Inherited {
		i := inherited{fd: in.FD}
		_ = wire.Unmarshal([]byte(in.Data), &i.record) // one without a place is not claimed as extra
		s.inherited[in.Key] = i
	}
	addrs, errs := check(cfg.Listeners, s.resolve)
	if len(errs) > 0 {
		return errs[0]
	}
	for i, l := range cfg.Listeners {
		if err := s.openListener(l, addrs[i]); err != nil {
			return err
		}
	}
	for key, in := range s.inherited {
		s.keepExtra(key, in)
	}
	s.inherited = nil
	s.cfg.Reload = false
	return s.shareOverlaps()
}

// resolve finds out where l is, once for all masters of a configuration: a name may mean something else by now.
func (s *Set) resolve(l Listener) (Addr, error) {
	address := l.Address
	if found, ok := s.Resolved[address]; ok {
		address = found
	}
	a, err := Resolve(address, l.transport(), s.cfg.Dir)
	if err == nil {
		s.Resolved[l.Address] = a.String()
	}
	return a, err
}

// openListener opens the shared socket of l, or one for each slot.
func (s *Set) openListener(l Listener, a Addr) error {
	if !l.perSlot(a) {
		return s.open(l, a, Shared)
	}
	if err := s.refuseActivated(l, a); err != nil {
		return err
	}
	for slot := range s.cfg.Slots {
		if err := s.open(l, a, slot); err != nil {
			return err
		}
	}
	return nil
}

// open adds the socket of a slot: an inherited or an activated one, or a new one.
func (s *Set) open(l Listener, a Addr, slot int) error {
	k := &socket{Listener: l, addr: a, key: a.key(l.name(), slot), record: record{place: a.place(l.name()), Slot: slot}}
	if !s.claim(k) {
		if err := s.create(k); err != nil {
			return err
		}
	}
	s.sockets = append(s.sockets, k)
	return nil
}

// claim makes k of the inherited socket with its key. A Unix socket that is not at its path any more is left to the
// workers that have it: they serve what is in its queue, and a new one is made.
func (s *Set) claim(k *socket) bool {
	in, ok := s.inherited[k.key]
	if !ok {
		return false
	}
	delete(s.inherited, k.key)
	if in.File != (wire.Path{}) && !s.cfg.Restart && !ownfile.Is(in.File) {
		_ = unix.Close(in.fd)
		return false
	}
	in.place, in.Slot = k.place, k.Slot
	k.record, k.fd = in.record, in.fd
	k.look()
	if k.Generation > s.cfg.Generation { // of another life of the program, whose sockets systemd has kept
		k.Generation = 0
		s.update(k)
	}
	return true
}

func (s *Set) create(k *socket) error {
	ok, err := s.adopt(k)
	if err == nil && !ok {
		err = s.bindNew(k)
	}
	if err != nil {
		return err
	}
	s.master.Put(k.key, k.record, k.fd, k.File)
	return nil
}

// update has the registry know of a change to k's record.
func (s *Set) update(k *socket) { s.master.Put(k.key, k.record, -1, wire.Path{}) }

// drop closes a socket, here and in the registry.
func (s *Set) drop(k *socket) {
	s.master.Drop(k.key)
	_ = unix.Close(k.fd)
}

// bindNew makes a socket of this generation. Where others of the listener have failed it fails with them, and is tried
// again with them.
func (s *Set) bindNew(k *socket) (err error) {
	if k.fd, err = newSocket(k.addr); err != nil {
		return err
	}
	if k.Slot != Shared {
		_ = shareAddress(k.fd)
	}
	k.Order, k.Generation = s.nextOrder(k.place), s.cfg.Generation
	err = s.bind(k)
	switch {
	case err == nil && k.addr.network == "unix":
		k.File, _ = ownfile.At(k.addr.path)
	case err != nil && s.failure(k.at()) == nil:
		_ = unix.Close(k.fd)
		return s.hintActivated(err, k.Group)
	case err != nil:
		k.fail(err)
		return nil
	}
	k.look()
	return nil
}

// A reload that finds an address taken tries again for so long, and so often: workers of an earlier generation go on
// accepting for a moment on one that has left the configuration, and it may be back already. Nobody says when they have
// closed it.
const (
	bindLimit = time.Second
	bindPause = 10 * time.Millisecond
)

// bind takes k's address: first as if we had nothing there, so that somebody else's socket is noticed.
func (s *Set) bind(k *socket) error {
	for end := time.Now().Add(bindLimit); ; time.Sleep(bindPause) {
		err := bind(k.fd, k.addr)
		if errors.Is(err, unix.EADDRINUSE) && s.shareOwn(k.place) { // the port is ours, in another shape
			_ = shareAddress(k.fd)
			err = bind(k.fd, k.addr)
		}
		if !errors.Is(err, unix.EADDRINUSE) || !s.cfg.Reload || time.Now().After(end) {
			return err
		}
	}
}

// shareOwn makes our own sockets share their port with a new one in place p. It reports whether there are any.
func (s *Set) shareOwn(p place) (found bool) {
	for fd, r := range s.all() {
		if r.overlaps(p) && shareAddress(fd) == nil {
			found = true
		}
	}
	return found
}

// nextOrder is that of a new socket among those in its place.
func (s *Set) nextOrder(p place) (next int) {
	for _, r := range s.all() {
		if r.place == p {
			next = max(next, r.Order+1)
		}
	}
	return next
}

// all yields the sockets that there are, with those that no listener has claimed yet.
func (s *Set) all() iter.Seq2[int, record] {
	return func(yield func(int, record) bool) {
		for _, k := range s.sockets {
			if !yield(k.fd, k.record) {
				return
			}
		}
		for _, in := range s.inherited {
			if !yield(in.fd, in.record) {
				return
			}
		}
	}
}

// keepExtra decides about a socket that the configuration does not name.
func (s *Set) keepExtra(key string, in inherited) {
	k := &socket{record: in.record, key: key, fd: in.fd, extra: true, state: listening}
	o := s.covering(k.place)
	if o == nil || !listens(k.fd) {
		s.drop(k)
		return
	}
	k.Listener = o.Listener
	s.sockets = append(s.sockets, k)
}

// covering is the socket whose listener serves what comes to an extra one in place p: of those that cover it the
// narrowest. It is nil if there is none.
func (s *Set) covering(p place) (found *socket) {
	for _, o := range s.sockets {
		if !o.extra && o.covers(p) && (found == nil || found.covers(o.place)) {
			found = o
		}
	}
	return found
}

// shareOverlaps makes the sockets in overlapping places share their port, so that all of them can listen.
func (s *Set) shareOverlaps() error {
	places := map[string][]place{}
	for _, k := range s.sockets {
		if !slices.Contains(places[k.Group], k.place) {
			places[k.Group] = append(places[k.Group], k.place)
		}
	}
	for _, k := range s.sockets {
		shared := slices.ContainsFunc(places[k.Group], func(p place) bool { return p != k.place && p.overlaps(k.place) })
		if !shared {
			continue
		}
		if err := shareAddress(k.fd); err != nil {
			return fmt.Errorf("listen %s: %w", k.name(), err)
		}
	}
	return nil
}

// Close gives up this process's hold on the sockets.
func (s *Set) Close() {
	s.retryAt = 0
	for _, k := range s.sockets {
		if k.fd >= 0 {
			_ = unix.Close(k.fd)
			k.fd = -1
		}
	}
}
