package supervisor

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// hangupWindow is how soon after the terminal has gone a HUP is taken for its farewell: the kernel sends one, and a
// shell that ends sends one more. A later HUP comes from somebody.
const hangupWindow = 2 * time.Second

// terminal tells the HUP of a closed terminal from one that somebody sent. Its nil value is no terminal.
type terminal struct {
	fd   int
	gone atomic.Int64 // when it went, Unix nanoseconds
}

// openTerminal returns the controlling terminal, or nil where there is none, or where nohup asked that its end be
// ignored.
func openTerminal(nohup bool) *terminal {
	if nohup {
		return nil
	}
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	t := &terminal{fd: fd}
	go t.await()
	return t
}

// await notes when the terminal goes. It asks for no input, so that it wakes up once at most.
func (t *terminal) await() {
	p := []unix.PollFd{{Fd: int32(t.fd)}}
	for {
		_, err := unix.Poll(p, -1)
		if err == unix.EINTR {
			continue
		}
		t.gone.CompareAndSwap(0, time.Now().UnixNano())
		return
	}
}

// hungUp reports whether the terminal has just gone.
func (t *terminal) hungUp() bool {
	if t == nil {
		return false
	}
	if at := t.gone.Load(); at != 0 {
		return time.Since(time.Unix(0, at)) < hangupWindow
	}
	p := []unix.PollFd{{Fd: int32(t.fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
