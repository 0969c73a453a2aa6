package worker

import (
	"os"

	"golang.org/x/sys/unix"

	"baton/worker/sock"
)

// backlogWatcher sees whether connections wait in a listening socket, without taking them.
type backlogWatcher struct {
	ln    acceptor
	file  *os.File      // a duplicate of the socket that the runtime polls; nil: there is none
	await chan struct{} // closed when a connection waits; nil: nobody looks
}

func watchBacklog(ln acceptor) *backlogWatcher {
	q := &backlogWatcher{ln: ln}
	q.control(func(fd uintptr) {
		if d, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			q.file = os.NewFile(uintptr(d), "queue")
		}
	})
	return q
}

func (q *backlogWatcher) close() {
	if q.file != nil {
		_ = q.file.Close()
	}
}

// event is closed when somebody waits.
func (q *backlogWatcher) event() <-chan struct{} {
	if q.await != nil {
		select {
		case <-q.await:
		default:
			return q.await
		}
	}
	raw, err := q.file.SyscallConn()
	if err != nil {
		return nil
	}
	await := make(chan struct{})
	q.await = await
	go func() {
		if raw.Read(sock.Acceptable) == nil { // else it was closed
			close(await)
		}
	}()
	return await
}

func (q backlogWatcher) control(f func(fd uintptr)) {
	if raw, err := q.ln.SyscallConn(); err == nil {
		_ = raw.Control(f)
	}
}
