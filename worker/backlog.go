package worker

import (
	"os"
	"time"

	"baton/worker/rawfd"
	"baton/worker/sock"
)

// backlogWatcher sees whether connections wait in a listening socket, without taking them.
type backlogWatcher struct {
	file  *os.File      // a duplicate of the socket that the runtime polls; nil: there is none
	await chan struct{} // closed when a connection waits; nil: nobody looks
}

func watchBacklog(ln acceptor) *backlogWatcher {
	w := &backlogWatcher{}
	if fd, err := rawfd.Of(ln); err == nil {
		w.file = os.NewFile(uintptr(fd), "backlog")
	}
	return w
}

func (w *backlogWatcher) close() {
	if w.file != nil {
		_ = w.file.Close()
	}
}

// blindness is how long a watcher that sees nothing may be relied on; 0 is for ever.
func (w *backlogWatcher) blindness() time.Duration {
	if w.file == nil {
		return longPause
	}
	return 0
}

// event is closed when a connection waits.
func (w *backlogWatcher) event() <-chan struct{} {
	if w.file == nil {
		return nil
	}
	if w.await != nil && !isClosed(w.await) {
		return w.await
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return nil
	}
	await := make(chan struct{})
	w.await = await
	go func() {
		if raw.Read(sock.Acceptable) == nil { // else it was closed
			close(await)
		}
	}()
	return await
}
