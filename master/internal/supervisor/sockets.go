package supervisor

import (
	"encoding/json"
	"strconv"

	"golang.org/x/sys/unix"

	"baton/master/internal/systemd"
	"baton/worker/wire"
)

// EntryPassed are descriptors that systemd has passed at the start, by a socket unit. They stay in the registry,
// whether a configuration uses them or not: the next one may.
const EntryPassed = "passed" // passed/<n>: its data is a Passed

// Passed is the data of such an entry.
type Passed struct {
	Name string `json:"name"` // FileDescriptorName=, by default the name of the socket unit
}

// takeActivated puts into the registry what systemd has passed: sockets of an earlier supervisor where they were, and
// all others as passed ones.
func (sv *supervisor) takeActivated() error {
	stored, passed, err := sv.systemd.Activation()
	if err != nil {
		return err
	}
	for _, s := range stored {
		sv.registry.put(s.Entry, entry{data: s.Data, fd: s.FD, unlink: s.Unlink})
	}
	for i, p := range passed {
		data, err := json.Marshal(Passed{Name: p.Name})
		if err != nil {
			return err
		}
		sv.registry.put(EntryPassed+"/"+strconv.Itoa(i), entry{data: string(data), fd: p.FD})
		sv.log.Info("supervisor: systemd has passed a descriptor", "name", p.Name)
	}
	return nil
}

// ownSockets lists the listening sockets that no socket unit has passed.
func (sv *supervisor) ownSockets() (own []systemd.Socket) {
	for _, name := range sv.registry.names(EntryListen + "/") {
		if e := sv.registry[name]; e.fd >= 0 && !sv.wasPassed(e.fd) {
			own = append(own, systemd.Socket{Entry: name, Data: e.data, Unlink: e.unlink, FD: e.fd})
		}
	}
	return own
}

func (sv *supervisor) wasPassed(fd int) bool {
	for _, name := range sv.registry.names(EntryPassed + "/") {
		if isSameSocket(sv.registry[name].fd, fd) {
			return true
		}
	}
	return false
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
			e.unlink = wire.Path{}
			sv.registry[name] = e
		}
		sv.registry.drop(name)
	}
	for _, name := range sv.registry.names(EntryPassed + "/") {
		sv.registry.drop(name)
	}
}
