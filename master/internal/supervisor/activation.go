package supervisor

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// EntryPassed are descriptors that systemd has passed at the start, by a socket unit. They stay in the registry, whether a
// configuration uses them or not: the next one may.
const EntryPassed = "passed" // passed/<n>: its data is a Passed

// Passed is the line of data of such an entry.
type Passed struct {
	Name string `json:"name"` // FileDescriptorName=, by default the name of the socket unit
}

// acceptedError is the mistake of a socket unit that makes a process for each connection.
type acceptedError struct{ name string }

func (e acceptedError) Error() string {
	return fmt.Sprintf("socket activation: %q is not a listening socket but a connection; set Accept=no in the socket unit", e.name)
}

// takePassed puts into the registry what systemd has passed: sockets of an earlier supervisor, from its own store, where they
// were, and all others as passed ones. Nothing of the environment that said so is left.
func (sv *supervisor) takePassed() error {
	files := activation.Files(true)
	_ = os.Unsetenv("LISTEN_PIDFDID")
	var all []passed
	for _, f := range files {
		p, err := takeFile(f)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	all, dead := sv.systemd.store.restore(all, sv.registry)
	for _, name := range dead {
		sv.systemd.tell("FDSTOREREMOVE=1", "FDNAME="+name)
	}
	for i, p := range all {
		if isConnection(p.fd) {
			return acceptedError{p.name}
		}
		data, err := json.Marshal(Passed{Name: p.name})
		if err != nil {
			return err
		}
		sv.registry.put(EntryPassed+"/"+strconv.Itoa(i), entry{data: string(data), fd: p.fd})
		sv.log.Info("supervisor: systemd has passed a descriptor", "name", p.name)
	}
	return nil
}

// passed is a raw descriptor, with the name that systemd has for it.
type passed struct {
	name string
	fd   int
}

// takeFile makes a raw descriptor of f, for a File joins the poller.
func takeFile(f *os.File) (passed, error) {
	defer func() { _ = f.Close() }()
	p := passed{name: f.Name(), fd: -1}
	fd, err := rawfd.Of(f)
	if err != nil {
		return p, fmt.Errorf("socket activation: %s: %w", p.name, err)
	}
	p.fd = fd
	return p, nil
}

// isConnection reports whether fd is a stream that is not listened on. Its client may have gone by now.
func isConnection(fd int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == unix.SOCK_STREAM && !isListening(fd)
}

// isListening reports whether fd is a socket that connections come to.
func isListening(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && on != 0
}

// sameFile reports whether two descriptors are of the same socket.
func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}
