package listen

import (
	"encoding/json"
	"fmt"
	"iter"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/worker/ownfile"
	"baton/worker/wire"
)

// owner is a Master whose workers only listen to what they are told.
type owner struct {
	*Set
	t        *testing.T
	registry map[string]record
	files    map[string]wire.Path
	workers  []*Worker
	told     map[int][]string // slot: kinds and keys
	warnings map[string]string
	said     []string // what was logged
}

func (o *owner) Put(key string, data any, fd int, file wire.Path) {
	if _, ok := o.registry[key]; !ok && fd < 0 {
		o.t.Errorf("%s has no descriptor in the registry", key)
	}
	o.registry[key] = data.(record)
	if file != (wire.Path{}) {
		o.files[key] = file
	}
}

func (o *owner) Drop(key string) {
	delete(o.registry, key)
	ownfile.Remove(o.files[key])
	delete(o.files, key)
}

func (o *owner) Workers() iter.Seq[*Worker] { return slices.Values(o.workers) }

func (o *owner) Warn(key, text string) {
	if o.warnings[key] != text {
		o.said = append(o.said, text)
	}
	o.warnings[key] = text
}

func (o *owner) Unwarn(key, msg string, _ ...any) {
	if _, ok := o.warnings[key]; ok {
		o.said = append(o.said, msg)
	}
	delete(o.warnings, key)
}

// heard is what the worker in a slot was told since the last call.
func (o *owner) heard(slot int) []string {
	all := o.told[slot]
	delete(o.told, slot)
	return all
}

type conn func(m wire.Message, fds ...int) error

func (c conn) Post(m wire.Message, fds ...int) error { return c(m, fds...) }

// work adds workers to the slots up to n, and gives them what they begin with.
func (o *owner) work(n int) {
	o.t.Helper()
	for slot := len(o.workers); slot < n; slot++ {
		w := &Worker{Slot: slot, Conn: conn(func(m wire.Message, fds ...int) error {
			word := m.Kind()
			switch m := m.(type) {
			case wire.AddSocket:
				word += " " + m.Listener.Key
				if len(fds) != 1 || !m.Listener.Additional {
					o.t.Errorf("%+v with %d descriptors", m, len(fds))
				}
			case wire.RemoveSocket:
				word += " " + m.Key
			}
			o.told[slot] = append(o.told[slot], word)
			return nil
		})}
		if err := o.Give(w, nil); err != nil {
			o.t.Fatal(err)
		}
		o.heard(slot)
		o.workers = append(o.workers, w)
	}
}

func newOwner(t *testing.T) *owner {
	t.Helper()
	o := &owner{
		Set: &Set{}, t: t, registry: map[string]record{}, files: map[string]wire.Path{}, told: map[int][]string{},
		warnings: map[string]string{},
	}
	t.Cleanup(func() { o.Close() })
	return o
}

// opened is a set that serves, with a worker in each slot.
func opened(t *testing.T, slots int, all ...Listener) *owner {
	t.Helper()
	o := newOwner(t)
	if err := o.Open(o, Config{Listeners: all, Slots: slots, Generation: 1, Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	o.start(slots)
	return o
}

// start is what comes after COMMIT.
func (o *owner) start(slots int) {
	o.work(slots)
	o.Listen()
	o.Serve(slots, nil)
}

// successor is the set of the next generation, that serves.
func (o *owner) successor(cfg Config) *owner {
	o.t.Helper()
	next, err := o.trySuccessor(cfg)
	if err != nil {
		o.t.Fatal(err)
	}
	next.start(cfg.Slots)
	return next
}

func (o *owner) trySuccessor(cfg Config) (*owner, error) {
	o.t.Helper()
	next := newOwner(o.t)
	cfg.Generation, cfg.Dir = o.cfg.Generation+1, o.cfg.Dir
	for _, k := range o.sockets {
		fd, err := unix.Dup(k.fd)
		if err != nil {
			o.t.Fatal(err)
		}
		data, _ := json.Marshal(o.registry[k.key])
		next.Inherit(k.key, string(data), fd)
		next.registry[k.key], next.files[k.key] = o.registry[k.key], o.files[k.key]
	}
	return next, next.Open(next, cfg)
}

// check is Check at rest, as long after now as d.
func (o *owner) check(d time.Duration) (next time.Duration, changed bool) {
	now := monotime.Now().Add(d)
	at, changed := o.Check(now, true)
	if at == 0 {
		return 0, changed
	}
	return at.Sub(now), changed
}

// slots are those of the sockets that listen, in order; an extra one is in brackets.
func (o *owner) slots() string {
	var all []string
	for _, k := range o.sockets {
		s := fmt.Sprint(k.Slot)
		if k.extra {
			s = "(" + s + ")"
		}
		if k.state != listening {
			s += "!"
		}
		all = append(all, s)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// freeAddress is one that no other test has: on a loopback address and a port of its own.
func freeAddress() string {
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254), 10000+rand.IntN(20000))
}

// knock makes n connections, and waits until each is in a queue.
func (o *owner) knock(address string, n int) {
	o.t.Helper()
	queued := func() (n int) {
		for _, k := range o.sockets {
			n += acceptQueue(k.fd)
		}
		return n
	}
	before := queued()
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			o.t.Fatal(err)
		}
		o.t.Cleanup(func() { _ = c.Close() })
	}
	for queued() < before+n {
		time.Sleep(time.Millisecond)
	}
}

// accept empties the queues of the sockets that pick picks, and counts what was there.
func (o *owner) accept(pick func(k *socket) bool) (n int) {
	o.t.Helper()
	for _, k := range o.sockets {
		if pick(k) && k.state == listening {
			n += queued(o.t, k.fd)
		}
	}
	return n
}

func isExtra(k *socket) bool { return k.extra }
func isOwn(k *socket) bool   { return !k.extra }

// foreign is somebody else's listener.
func foreign(t *testing.T, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

// TestEnded: the addresses that no socket has any more, of whatever slot, extra ones among them.
func TestEnded(t *testing.T) {
	t.Parallel()
	s := &Set{sockets: []*socket{
		{key: "a/7", record: record{Slot: 7}, extra: true},
		{key: "b", record: record{Slot: Shared}},
		{key: "again", record: record{Slot: Shared, Generation: 5}}, // somebody has removed the first one's path
	}}
	if got := s.Ended([]string{"a", "c", "again"}, 4); !slices.Equal(got, []string{"c", "again"}) {
		t.Errorf("a worker of an older generation: %v", got)
	}
	if got := s.Ended([]string{"a", "again"}, 5); len(got) != 0 {
		t.Errorf("a worker of the generation that has made it: %v", got)
	}
	if got := s.Addresses(3); !slices.Equal(got, []string{"a", "again", "b"}) {
		t.Errorf("addresses %v", got)
	}
}

// TestGenerationOfAnInheritedSocket: one of another life of the program, whose sockets systemd has kept, is before all
// generations of this one.
func TestGenerationOfAnInheritedSocket(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ made, gen, want int }{{3, 5, 3}, {5, 5, 5}, {7, 1, 0}, {0, 1, 0}} {
		all := []Listener{{Address: freeAddress()}}
		o := opened(t, 1, all...)
		key := o.sockets[0].key
		o.sockets[0].Generation = tt.made
		o.update(o.sockets[0])
		o.cfg.Generation = tt.gen - 1
		next := o.successor(Config{Listeners: all, Slots: 1})
		if got := next.sockets[0].Generation; got != tt.want || next.registry[key].Generation != tt.want {
			t.Errorf("made in %d, to generation %d: %d, want %d", tt.made, tt.gen, got, tt.want)
		}
	}
}
