package listen

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/backoff"
	"baton/master/internal/monotime"
	"baton/worker/ownfile"
	"baton/worker/rawfd"
	"baton/worker/wire"
)

// Set is the listening sockets of a generation. The zero value holds none.
type Set struct {
	// Resolved are the addresses as they are written and as they were found. A restarted master sets it before Open.
	Resolved map[string]string

	cfg       Config
	master    Master
	listeners []listener
	sockets   []*socket
	inherited map[string]*socket // by key: those that no listener has claimed yet
	activated []activated
	serving   int // see Serve
	empty     []int
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

// Inherit adds a socket of the registry, before Open.
func (s *Set) Inherit(key, data string, fd int) {
	k := &socket{key: key, fd: fd}
	_ = wire.Unmarshal([]byte(data), &k.record) // without a record it is in no place that a listener covers
	if s.inherited == nil {
		s.inherited = map[string]*socket{}
	}
	s.inherited[key] = k
}

// Open takes the inherited sockets that the configuration names, and binds those that are new. Others are extra, or are
// dropped at COMMIT: the old workers still hold them, and end them when their queues are empty.
func (s *Set) Open(m Master, cfg Config) (err error) {
	s.master, s.cfg = m, cfg
	if s.Resolved == nil {
		s.Resolved = map[string]string{}
	}
	var errs []*Error
	if s.listeners, errs = check(cfg.Listeners, s.resolve); len(errs) > 0 {
		return errs[0]
	}
	for _, l := range s.listeners {
		if err := s.open(l, cfg.Slots); err != nil {
			return err
		}
	}
	for _, k := range s.inherited {
		s.keepExtra(k)
	}
	s.inherited, s.cfg.Reload = nil, false
	return s.shareOverlaps()
}

// resolve finds out where l is, once for all masters of a configuration: a name may mean something else by now.
func (s *Set) resolve(l Listener) (Addr, error) {
	address := l.Address
	if found, ok := s.Resolved[address]; ok {
		address = found
	}
	a, err := Resolve(address, l.Transport, s.cfg.Dir)
	if err == nil {
		s.Resolved[l.Address] = a.String()
	}
	return a, err
}

// open opens what l lacks: its shared socket, or one for each of n slots.
func (s *Set) open(l listener, n int) error {
	if !l.perSlot() {
		return s.openSlot(l, Shared)
	}
	if err := s.refuseActivated(l); err != nil {
		return err
	}
	for slot := range n {
		if err := s.openSlot(l, slot); err != nil {
			return err
		}
	}
	return nil
}

// openSlot opens the socket of a slot: the one that there is, an inherited or an activated one, or a new one.
func (s *Set) openSlot(l listener, slot int) error {
	key := l.addr.key(l.Name, slot)
	if i := slices.IndexFunc(s.sockets, func(k *socket) bool { return k.key == key }); i >= 0 {
		s.sockets[i].extra = false
		return nil
	}
	k := s.claim(key)
	k.listener, k.place, k.Slot = l, l.addr.place(l.Name), slot
	if k.fd < 0 {
		if err := s.create(k); err != nil {
			return err
		}
		s.master.Put(k.key, k.record, k.fd, k.File)
	} else if k.Generation > s.cfg.Generation { // of another life of the program, whose sockets systemd has kept
		k.Generation = 0
		s.update(k)
	}
	k.look()
	s.sockets = append(s.sockets, k)
	return nil
}

// claim returns the inherited socket with a key, or one without a descriptor. A Unix socket that is not at its path any
// more is left to the workers that have it: they serve what is in its queue, and a new one is made.
func (s *Set) claim(key string) *socket {
	k, ok := s.inherited[key]
	delete(s.inherited, key)
	if !ok {
		return &socket{key: key, fd: -1}
	}
	if k.File != (wire.Path{}) && !s.cfg.Restart && !ownfile.Is(k.File) {
		_ = unix.Close(k.fd)
		return &socket{key: key, fd: -1}
	}
	return k
}

// update has the registry know of a change to k's record.
func (s *Set) update(k *socket) { s.master.Put(k.key, k.record, -1, wire.Path{}) }

// drop closes a socket, here and in the registry.
func (s *Set) drop(k *socket) {
	s.master.Drop(k.key)
	_ = unix.Close(k.fd)
}

// create makes k of an activated socket, or a socket of this generation. Where others of the listener have failed it
// fails with them, and is tried again with them.
func (s *Set) create(k *socket) (err error) {
	if ok, err := s.adopt(k); ok || err != nil {
		return err
	}
	if k.fd, err = newSocket(k.addr); err != nil {
		return err
	}
	if k.Slot != Shared {
		_ = shareAddress(k.fd)
	}
	for _, o := range s.all() {
		if o.place == k.place {
			k.Order = max(k.Order, o.Order+1)
		}
	}
	k.Generation = s.cfg.Generation
	err = s.bind(k)
	switch {
	case err == nil && k.addr.network == "unix":
		k.File, _ = ownfile.At(k.addr.path)
	case err != nil && s.failure(k.at()) != nil:
		k.fail(err)
		return nil
	case err != nil:
		_ = unix.Close(k.fd)
		return s.hintActivated(err, k.Group)
	}
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
	for _, o := range s.all() {
		if o.overlaps(p) && shareAddress(o.fd) == nil {
			found = true
		}
	}
	return found
}

// all are the sockets that there are, with those that no listener has claimed yet.
func (s *Set) all() []*socket {
	return slices.AppendSeq(slices.Clone(s.sockets), maps.Values(s.inherited))
}

// keepExtra decides about an inherited socket that the configuration does not name.
func (s *Set) keepExtra(k *socket) {
	var by *socket // whose listener serves what comes to k: of those that cover it the narrowest
	for _, o := range s.sockets {
		if !o.extra && o.covers(k.place) && (by == nil || by.covers(o.place)) {
			by = o
		}
	}
	if by == nil || !rawfd.Listens(k.fd) {
		s.drop(k)
		return
	}
	k.listener, k.extra, k.state = by.listener, true, listening
	s.sockets = append(s.sockets, k)
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
		overlaps := func(p place) bool { return p != k.place && p.overlaps(k.place) }
		if !slices.ContainsFunc(places[k.Group], overlaps) {
			continue
		}
		if err := shareAddress(k.fd); err != nil {
			return fmt.Errorf("listen %s: %w", k.Name, err)
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
