package supervisor

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"baton/master/internal/systemd"
	"baton/worker/wire"
)

// EntryActivated are descriptors that systemd has passed at the start, by a socket unit. They stay in the registry,
// whether a configuration uses them or not: the next one may.
const EntryActivated = "activated" // activated/<n>: its data is FileDescriptorName=, by default the socket unit's name

// takeActivated puts into the registry what systemd has passed: sockets of an earlier supervisor where they were, and
// all others as activated ones.
func (sv *supervisor) takeActivated() error {
	stored, activated, err := sv.systemd.Activation()
	if err != nil {
		return err
	}
	for _, s := range stored {
		sv.registry.put(s.Entry, entry{Data: s.Data, FD: s.FD, Unlink: s.Unlink})
	}
	for i, a := range activated {
		sv.registry.put(EntryActivated+"/"+strconv.Itoa(i), entry{Data: a.Name, FD: a.FD})
		sv.log.Info("supervisor: systemd has passed a descriptor", "name", a.Name)
	}
	return nil
}

// ownSockets lists the listening sockets that no socket unit has passed.
func (sv *supervisor) ownSockets() (own []systemd.Socket) {
	for _, name := range sv.registry.names(EntryListen + "/") {
		if e := sv.registry[name]; e.FD >= 0 && !sv.isActivated(e.FD) {
			own = append(own, systemd.Socket{Entry: name, Data: e.Data, Unlink: e.Unlink, FD: e.FD})
		}
	}
	return own
}

func (sv *supervisor) isActivated(fd int) bool {
	same := func(name string) bool { return isSameSocket(sv.registry[name].FD, fd) }
	return slices.ContainsFunc(sv.registry.names(EntryActivated+"/"), same)
}

func isSameSocket(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// dropListeners closes the listening sockets of a program that ends. Of those that systemd keeps, for sure, the paths
// stay.
func (sv *supervisor) dropListeners() {
	for _, name := range sv.registry.names(EntryListen + "/") {
		if e := sv.registry[name]; sv.systemd.IsKept(name) {
			e.Unlink = wire.Path{}
			sv.registry[name] = e
		}
		sv.registry.drop(name)
	}
	for _, name := range sv.registry.names(EntryActivated + "/") {
		sv.registry.drop(name)
	}
}
