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

// Give posts to a new worker the sockets that it begins with, and paths: each in a message of its own, and the last one
// says that there are no more.
func (s *Set) Give(w *Worker, paths []wire.Path) error {
	for _, k := range s.sockets {
		if !k.isOf(w.Slot) {
			continue
		}
		if err := w.Conn.Post(wire.Sockets{Listeners: []wire.Listener{k.wire()}, More: true}, k.fd); err != nil {
			return err
		}
		w.give(k.key)
	}
	for _, p := range paths {
		if err := w.Conn.Post(wire.Sockets{Paths: []wire.Path{p}, More: true}); err != nil {
			return err
		}
	}
	return w.Conn.Post(wire.Sockets{})
}
