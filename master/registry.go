package master

import (
	"encoding/json"
	"fmt"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/spawn"
	"baton/master/internal/supervisor"
	"baton/worker/seqpacket"
	workersock "baton/worker/sock"
	"baton/worker/wire"
)

// registry is a master's side of the supervisor's registry: what outlives the master.
type registry struct {
	supervisor   link
	inherited    map[string]entry // what this process was told, until it is used
	createdPaths []wire.Path      // the files that this process has made
	lost         bool             // the supervisor is dead
	failed       func(entry string, err error)
}

// entry is an entry of the registry.
type entry struct {
	data string
	fd   int // -1: none
}

// close closes the descriptor, if there is one.
func (e entry) close() {
	if e.fd >= 0 {
		_ = unix.Close(e.fd)
	}
}

// addInherited notes an entry as the supervisor sends it.
func (r *registry) addInherited(p *seqpacket.Packet) error {
	var it message.Item
	if err := p.Frame.Into(&it); err != nil {
		return err
	}
	r.discard(it.Name)
	e := entry{data: it.Data, fd: -1}
	if it.HasFD {
		e.fd = p.TakeFD()
	}
	r.inherited[it.Name] = e
	return nil
}

// claim gives an inherited entry to the caller; fd is -1 where there is none.
func (r *registry) claim(name string) (entry, bool) {
	e, ok := r.inherited[name]
	delete(r.inherited, name)
	if !ok {
		e.fd = -1
	}
	return e, ok
}

// discard closes an inherited entry that is not used.
func (r *registry) discard(name string) {
	e, _ := r.claim(name)
	e.close()
}

// discardWorkers forgets the inherited workers.
func (r *registry) discardWorkers() {
	for name := range r.inherited {
		if supervisor.WorkerPID(name) != 0 {
			r.discard(name)
		}
	}
}

// store puts an entry into the registry: v as a line of JSON unless it is a string, and a duplicate of fd unless that
// is -1. Before COMMIT it is staged.
func (r *registry) store(name string, v any, fd int) { r.put(message.Put{Name: name}, v, fd) }

func (r *registry) put(p message.Put, v any, fd int) {
	if r.lost {
		return
	}
	r.createdPaths = append(r.createdPaths, p.Unlink, p.Undo)
	var fds []int
	if fd >= 0 {
		fds = append(fds, fd)
	}
	s, ok := v.(string)
	if !ok {
		b, err := wire.Marshal(v)
		if s = string(b); err != nil {
			r.failed(p.Name, err)
		}
	}
	p.Data = s
	if err := r.supervisor.Post(p, fds...); err != nil {
		r.failed(p.Name, err)
	}
}

// storeMemory puts bytes into the registry, as a memory file.
func (r *registry) storeMemory(name string, b []byte) error {
	fd, err := spawn.Memory(name, b)
	if err != nil {
		return err
	}
	r.store(name, "", fd)
	return unix.Close(fd)
}

// drop removes an entry.
func (r *registry) drop(name string) { _ = r.supervisor.Post(message.Drop{Name: name}) }

// desiredSlots is the number of slots: config, unless a resize has asked for another one since the config says
// so.
func (r *registry) desiredSlots(config int) int {
	var s message.Slots
	e, ok := r.inherited[supervisor.EntryCount]
	if ok && json.Unmarshal([]byte(e.data), &s) == nil && s.Config == config {
		return s.Count
	}
	return config
}

// openBalance takes the memory in which the workers of all generations count what they accept, or makes it.
func (r *registry) openBalance() (fd int, err error) {
	if e, _ := r.claim(entryBalance); e.fd >= 0 {
		return e.fd, nil
	}
	if fd, err = workersock.NewBalance(MaxWorkers); err == nil {
		r.store(entryBalance, "", fd)
	}
	return fd, err
}

// readWelcome waits for the supervisor's answer to Hello, and for all entries.
func (r *registry) readWelcome() (w message.Welcome, err error) {
	for {
		p, err := r.supervisor.Recv()
		if err != nil {
			return w, fmt.Errorf("master: welcome: %w", err)
		}
		done, err := r.onWelcome(&p, &w)
		p.Close()
		if done || err != nil {
			return w, err
		}
	}
}

func (r *registry) onWelcome(p *seqpacket.Packet, w *message.Welcome) (done bool, err error) {
	if err := p.Frame.Check(); err != nil {
		return true, err
	}
	switch p.Frame.T {
	case message.Welcome{}.Kind():
		err = p.Frame.Into(w)
	case message.Refused{}.Kind():
		var refused message.Refused
		_ = p.Frame.Into(&refused)
		err = fmt.Errorf("master: the supervisor refused: %s", refused.Error)
	case message.Item{}.Kind():
		err = r.addInherited(p)
	case message.End{}.Kind():
		return true, nil
	}
	return false, err
}
