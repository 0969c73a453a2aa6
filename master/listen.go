package master

import (
	"iter"
	"strings"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/supervisor"
	"baton/worker/wire"
)

// MaxListeners is how many listeners a configuration may have.
const MaxListeners = listen.MaxListeners

// A ListenError says why one of a configuration's listeners cannot be served: Err, of the listener at Index in
// Config.Listen, whose name or address the one at Other has as well; that is -1 if the listener is wrong by itself.
type ListenError = listen.Error

// CheckListen says what is wrong with a configuration's listeners, as far as it can be said without opening them: a
// start and a reload ask the same. Names of machines are looked up; relative paths begin at dir.
//
// Addresses may overlap, as ":8080" and "127.0.0.1:8080" do: a connection goes to the narrowest one that it fits. They
// must not be the same, however they are written, unless one is of UDP and the other is not; nor must names.
func CheckListen(all []Listen, dir string) []*ListenError { return listen.Check(listeners(all), dir) }

// CheckHere fails if this machine does not have the address of a listener, which [CheckListen] has found to be right.
// It is for a start: a reload goes on with the sockets that there are, also when their address has moved to another
// machine.
func CheckHere(all []Listen, dir string) error {
	for _, l := range listeners(all) {
		if err := listen.CheckHere(l, dir); err != nil {
			return err
		}
	}
	return nil
}

func listeners(all []Listen) []listen.Listener {
	list := make([]listen.Listener, len(all))
	for i, l := range all {
		list[i] = listen.Listener(l)
	}
	return list
}

// openListeners opens the sockets that the configuration names: those of the registry and of systemd, and new ones.
func (m *master) openListeners() error {
	cfg := listen.Config{
		Listeners: listeners(m.cfg.Listen), Slots: m.desired, Generation: m.gen, Dir: m.dir,
		Reload: m.attempt != "", Restart: m.welcome.Role == message.RoleRestart,
	}
	for name, e := range m.inherited {
		if key, ok := strings.CutPrefix(name, supervisor.EntryListen+"/"); ok {
			delete(m.inherited, name)
			m.sockets.Inherit(key, e.data, e.fd)
		}
		if strings.HasPrefix(name, supervisor.EntryActivated+"/") {
			m.sockets.Activate(e.data, e.fd)
		}
	}
	return m.sockets.Open(socketOwner{m}, cfg)
}

// checkSockets tries the sockets again that could not listen, closes those that are needed no more, and returns when
// to look again.
func (m *master) checkSockets(now monotime.Time) (next monotime.Time) {
	next, changed := m.sockets.Check(now, m.phase == phaseCurrent && m.upgrading == "")
	if changed {
		m.serving() // there are more for systemd to keep, or fewer
	}
	return next
}

// serveSockets has the sockets follow the workers.
func (m *master) serveSockets() { m.sockets.Serve(m.servingSlots(m.gen, m.desired, m.crashes)) }

// servingSlots is how many slots from 0 on are served, by a worker or after a crash by the others, and which are those.
func (w *pool) servingSlots(gen, slots int, crashes plan.Crashes) (serving int, crashed []int) {
	active := map[int]bool{}
	for _, p := range w.procs {
		if p.Generation == gen && p.State == plan.Serving {
			active[p.Slot] = true
		}
	}
	for slot := range slots {
		if !active[slot] && crashes.Count(slot) > 0 {
			crashed = append(crashed, slot)
		} else if !active[slot] {
			continue
		}
		if serving == slot {
			serving++
		}
	}
	return serving, crashed
}

// asListener is the worker as the sockets see it.
func (p *proc) asListener() *listen.Worker {
	p.accepts.Slot, p.accepts.Conn, p.accepts.Draining = p.Slot, p.conn, p.State == plan.Draining
	return &p.accepts
}

// socketOwner is what the sockets see of their master.
type socketOwner struct{ m *master }

func (o socketOwner) Put(key string, data any, fd int, file wire.Path) {
	o.m.put(message.Put{Name: supervisor.EntryListen + "/" + key, Unlink: file}, data, fd)
}

func (o socketOwner) Drop(key string) {
	_ = o.m.supervisor.Post(message.Drop{Name: supervisor.EntryListen + "/" + key})
}

func (o socketOwner) Workers() iter.Seq[*listen.Worker] {
	return func(yield func(*listen.Worker) bool) {
		for _, p := range o.m.procs {
			if p.Generation == o.m.gen && !yield(p.asListener()) {
				return
			}
		}
	}
}

func (o socketOwner) Warn(key, text string) { o.m.warnOf(key, text) }

func (o socketOwner) Unwarn(key, msg string, args ...any) {
	if o.m.warnings.drop(key) {
		o.m.log.Info("master: "+msg, args...)
	}
}
