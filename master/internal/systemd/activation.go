package systemd

import (
	"fmt"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// Activated is a raw descriptor that systemd has passed at the start.
type Activated struct {
	Name string // FileDescriptorName=, by default the name of the socket unit
	FD   int
}

// AcceptError is the mistake of a socket unit that makes a process for each connection.
type AcceptError struct{ name string }

func (e AcceptError) Error() string {
	return fmt.Sprintf("socket activation: %q is not a listening socket but a connection; "+
		"set Accept=no in the socket unit", e.name)
}

// Activation takes what systemd has passed: the sockets that an earlier process has put into its store, and those of
// socket units. Nothing of the environment that said so is left.
func (m *Manager) Activation() (stored []Socket, activated []Activated, err error) {
	files := activation.Files(true)
	_ = os.Unsetenv("LISTEN_PIDFDID")
	for _, f := range files {
		p, err := takeFile(f)
		if err != nil {
			return nil, nil, err
		}
		activated = append(activated, p)
	}
	stored, activated, dead := m.fds.restore(activated)
	for _, name := range dead {
		m.tell("FDSTOREREMOVE=1", "FDNAME="+name)
	}
	for _, p := range activated {
		if isConnection(p.FD) {
			return nil, nil, AcceptError{p.Name}
		}
	}
	return stored, activated, nil
}

// takeFile makes a raw descriptor of f, for a File joins the poller.
func takeFile(f *os.File) (Activated, error) {
	defer func() { _ = f.Close() }()
	fd, err := rawfd.Of(f)
	if err != nil {
		return Activated{}, fmt.Errorf("socket activation: %s: %w", f.Name(), err)
	}
	return Activated{Name: f.Name(), FD: fd}, nil
}

// isConnection reports whether fd is a stream that is not listened on. Its client may have gone by now.
func isConnection(fd int) bool { return isType(fd, unix.SOCK_STREAM) && !rawfd.Listens(fd) }

func isType(fd, want int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	return err == nil && kind == want
}
