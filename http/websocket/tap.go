package websocket

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	ws "github.com/coder/websocket"
)

// longAgo is the deadline that wakes a Read at once.
var longAgo = time.Unix(1, 0)

// lingerTime bounds how long the client of a connection that is closed for what it sent has to read why.
const lingerTime = time.Second

// releaseLimit is how long a Read is held for the close to be written.
const releaseLimit = 5 * time.Second

// tap is the connection below a WebSocket. It knows the moments at which nothing of a message has been received: one of
// them is chosen for the close.
//
// Threading: one goroutine at a time reads; first the one that answers messages, in the end maybe the one that closes.
type tap struct {
	net.Conn
	in     frames
	wrong  atomic.Int64 // a ws.StatusCode, if something is wrong in them
	closed atomic.Bool  // the client is told so, at the next write
	inside atomic.Bool  // a message: between its first byte and its answer

	held     atomic.Bool   // such a moment is wanted
	quiet    chan struct{} // closed when it is there: the reader waits
	released chan struct{} // closed when it may go on: the close was written
	done     atomic.Bool   // it has been

	writing atomic.Bool // the close, by who has held
}

func newTap() *tap { return &tap{quiet: make(chan struct{}), released: make(chan struct{})} }

// read receives a message.
func read(ctx context.Context, c *ws.Conn, t *tap) (ws.MessageType, []byte, error) {
	kind, r, err := c.Reader(ctx)
	if err != nil {
		return 0, nil, err
	}
	t.inside.Store(true)
	data, err := io.ReadAll(r)
	return kind, data, err
}

// between is called when a message was answered.
func (t *tap) between() { t.inside.Store(false) }

// hold asks for a moment at which nothing is under way. quiet says when it is there.
func (t *tap) hold() {
	t.held.Store(true)
	_ = t.SetReadDeadline(longAgo)
}

// giveUp takes hold back.
func (t *tap) giveUp() { t.held.Store(false) }

// errWrong ends reading behind what is wrong.
var errWrong = errors.New("websocket: not what a client may send")

// Read reads up to what is wrong, and fails there. Once the close has been written it lingers first.
func (t *tap) Read(p []byte) (int, error) {
	if t.wrong.Load() != 0 {
		if t.closed.Load() {
			t.linger()
		}
		return 0, errWrong
	}
	n, err := t.receive(p)
	n, wrong := t.in.follow(p[:n])
	if wrong == 0 {
		return n, err
	}
	t.wrong.Store(int64(wrong))
	if n == 0 {
		return 0, errWrong
	}
	return n, nil
}

// linger drops what comes until the client has closed as well. A close with unread bytes would send a reset, which may
// overtake the reason.
func (t *tap) linger() {
	_ = t.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.Copy(io.Discard, t.Conn)
}

// receive reads. When it is to be held, it looks whether there is anything that was received, and if not waits.
func (t *tap) receive(p []byte) (int, error) {
	look := true
	for {
		if look && t.wanted() {
			_ = t.SetReadDeadline(longAgo)
		}
		n, err := t.Conn.Read(p)
		if n > 0 || !t.held.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		_ = t.SetReadDeadline(time.Time{})
		if !t.wanted() || arrived(t.Conn) {
			look = false
			continue
		}
		t.done.Store(true)
		close(t.quiet)
		t.awaitRelease()
	}
}

// wanted reports whether this is a moment to be held.
func (t *tap) wanted() bool { return t.held.Load() && !t.done.Load() && !t.inside.Load() }

// arrived reports whether there are bytes that have not been read.
func arrived(nc net.Conn) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, _ = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return n > 0
}

// Write writes. While the reader is held nobody answers anything: what is written is the close.
func (t *tap) Write(p []byte) (int, error) {
	n, err := t.Conn.Write(p)
	if t.writing.CompareAndSwap(true, false) {
		close(t.released)
	}
	return n, err
}

func (t *tap) awaitRelease() {
	timer := time.NewTimer(releaseLimit)
	defer timer.Stop()
	select {
	case <-t.released:
	case <-timer.C:
	}
}

// hijacker puts a tap below the connection that is hijacked.
type hijacker struct {
	http.ResponseWriter
	tap *tap
}

// Hijack is http.Hijacker's.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.tap.Conn = nc
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	_, wrong := h.tap.in.follow(early)
	h.tap.wrong.Store(int64(wrong))
	rw.Writer.Reset(h.tap)
	return h.tap, rw, nil
}
