package listen

import "baton/worker/wire"

// Worker is a worker of this generation, as a Set sees it.
type Worker struct {
	Slot     int
	Draining bool // it accepts no more
	Conn     interface {
		Post(m wire.Message, fds ...int) error
	}

	has map[string]bool // the keys of the sockets that this master has given to it
}

func (w *Worker) give(key string) {
	if w.has == nil {
		w.has = map[string]bool{}
	}
	w.has[key] = true
}

// add gives a socket to a worker that does not have it. One that was adopted may have it: it knows.
func (w *Worker) add(k *socket) {
	if w.has[k.key] {
		return
	}
	also := wire.AddSocket{Listener: k.wire()}
	also.Listener.Additional = true
	if w.Conn.Post(also, k.fd) == nil {
		w.give(k.key)
	}
}

// Give posts to a new worker the sockets that it begins with, and paths: one [wire.Sockets] at least.
func (s *Set) Give(w *Worker, paths []wire.Path) error {
	var all []*socket
	for _, k := range s.sockets {
		if k.isOf(w.Slot) {
			all = append(all, k)
		}
	}
	for _, b := range batches(all, paths) {
		if err := w.Conn.Post(b.Sockets, b.fds...); err != nil {
			return err
		}
		for _, l := range b.Listeners {
			w.give(l.Key)
		}
	}
	return nil
}

// Bounds of one [wire.Sockets] message, well below those of the wire.
const (
	batchBytes = 16 << 10
	batchFDs   = 100
)

// batch is a message, and the descriptors that go with it.
type batch struct {
	wire.Sockets
	fds  []int
	size int
}

// batches makes messages of what a worker is to get: none of them is too large, unless a single entry is.
func batches(all []*socket, paths []wire.Path) []batch {
	done := make([]batch, 1)
	room := func(v any) *batch {
		b, _ := wire.Marshal(v)
		if last := done[len(done)-1]; last.size > 0 && last.size+len(b) > batchBytes || len(last.fds) == batchFDs {
			done[len(done)-1].More = true
			done = append(done, batch{})
		}
		last := &done[len(done)-1]
		last.size += len(b) + 1
		return last
	}
	for _, k := range all {
		l := k.wire()
		b := room(l)
		b.Listeners, b.fds = append(b.Listeners, l), append(b.fds, k.fd)
	}
	for _, p := range paths {
		b := room(p)
		b.Paths = append(b.Paths, p)
	}
	return done
}
