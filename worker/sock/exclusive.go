package sock

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// exclusiveWait makes the runtime wait for a listening socket only while an Accept waits, at the end of the line of
// all processes that do, and wakes only the first in it (EPOLLEXCLUSIVE).
//
// The runtime puts every descriptor into its epoll for good, and can do no other. But it only reacts to what the epoll
// says: the descriptor is taken out of there and put in again, with the runtime's own data.
//
// Only one waiter is woken per connection, so it must call accept: a Listener is never armed while no Accept waits,
// and a worker that ends one tries once more, see [Listener.TryAccept].
type exclusiveWait struct {
	epoll int
	data  uint64 // the runtime's, for this descriptor
	armed bool   // only Accept looks
}

// asRuntime is what the runtime waits for, and when.
const asRuntime = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// waitExclusively returns nil if it does not find what it needs.
func waitExclusively(fd int) *exclusiveWait {
	epoll, data, ok := inEpoll(fd)
	if !ok {
		return nil
	}
	t := &exclusiveWait{epoll: epoll, data: data, armed: true}
	if t.end(uintptr(fd)) != nil {
		return nil
	}
	if t.begin(uintptr(fd)) != nil {
		_ = t.add(fd, asRuntime)
		return nil
	}
	_ = t.end(uintptr(fd))
	return t
}

// begin has this process woken for what comes, or is there already, if it is the first in the line.
func (t *exclusiveWait) begin(fd uintptr) error {
	if t == nil {
		return nil
	}
	t.armed = true
	return t.add(int(fd), unix.EPOLLIN|unix.EPOLLET|unix.EPOLLEXCLUSIVE)
}

func (t *exclusiveWait) add(fd int, events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(t.data), Pad: int32(t.data >> 32)}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(t.epoll, unix.EPOLL_CTL_ADD, fd, &ev))
}

// end leaves the line.
func (t *exclusiveWait) end(fd uintptr) error {
	if t == nil || !t.armed {
		return nil
	}
	t.armed = false
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(t.epoll, unix.EPOLL_CTL_DEL, int(fd), nil))
}

// runtimeEpoll is the descriptor of the runtime's epoll, which it never closes; 0: not known yet.
var runtimeEpoll atomic.Int32

// inEpoll finds the epoll that fd is in, and its data there.
func inEpoll(fd int) (epoll int, data uint64, ok bool) {
	if known := int(runtimeEpoll.Load()); known > 0 {
		data, ok = dataOf(known, fd)
		return known, data, ok
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, 0, false
	}
	for _, e := range all {
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || link != "anon_inode:[eventpoll]" {
			continue
		}
		epoll, _ := strconv.Atoi(e.Name())
		if data, ok := dataOf(epoll, fd); ok {
			runtimeEpoll.Store(int32(epoll))
			return epoll, data, true
		}
	}
	return 0, 0, false
}

// dataOf reads what the kernel says of fd in an epoll, if it is there as the runtime puts it.
func dataOf(epoll, fd int) (data uint64, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", epoll))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		var tfd int
		var events uint32
		n, _ := fmt.Sscanf(line, "tfd: %d events: %x data: %x", &tfd, &events, &data)
		if n == 3 && tfd == fd {
			const always = unix.EPOLLERR | unix.EPOLLHUP
			return data, events&^always == asRuntime
		}
	}
	return 0, false
}
