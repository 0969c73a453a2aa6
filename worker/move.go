package worker

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
)

// moveAgain is after how long an idle connection that nobody has taken is offered again.
const moveAgain = 5 * time.Second

// move offers an idle connection to the next generation. It is called and returns with the lock held, and gives it up
// while it waits for the answer; a Write waits for that, too.
func (c *Conn) move() {
	c.mu.Unlock()
	c.writing.Lock()
	gone := c.offer()
	c.mu.Lock()
	c.writing.Unlock()
	c.gone, c.leaving, c.nextTry = gone, false, time.Now().Add(moveAgain)
}

// offer gives the connection away and waits for the answer.
func (c *Conn) offer() (gone bool) {
	fd, err := dupConn(c.socket)
	if err != nil {
		return false
	}
	answer := make(chan bool, 1)
	c.s.env.Handover().Give(handover.Offer{
		Conn: handover.Conn{FD: fd, Key: c.from.key},
		Done: func(taken bool) {
			_ = unix.Close(fd)
			answer <- taken
		},
	})
	return <-answer
}

// dupConn returns a descriptor of the connection's socket. File would make the socket blocking for whoever takes it.
func dupConn(nc net.Conn) (fd int, err error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return -1, net.UnknownNetworkError("conn")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}
