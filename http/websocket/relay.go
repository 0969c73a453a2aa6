package websocket

import (
	"context"
	"encoding/binary"
	"io"
	"strings"
	"sync"
	"time"

	ws "github.com/coder/websocket"

	"baton/http/httpworker"
)

// Relay passes on what client and upstream say to each other on a connection that has switched to another protocol,
// until either ends, and closes both. In a drain a WebSocket is closed as those are that are served here: with 1012
// or 1001, between two messages, and where the upstream seems to owe an answer, after it.
func Relay(ctx context.Context, protocol string, client, upstream io.ReadWriteCloser) {
	r := &relay{client: client, upstream: upstream, over: make(chan struct{})}
	if strings.EqualFold(protocol, "websocket") {
		defer httpworker.OnDrain(ctx, func() { r.drain(ctx) })()
	}
	var both sync.WaitGroup
	both.Go(func() { r.pump(client, r.sendUp) })
	both.Go(func() { r.pump(upstream, r.sendDown) })
	both.Wait()
	close(r.over)
}

type relay struct {
	client, upstream io.ReadWriteCloser
	over             chan struct{} // closed when both directions have ended

	mu       sync.Mutex // is held while something is written to the client
	up, down messages
	owed     bool   // the last message came from the client
	farewell []byte // the close that is wanted
	said     bool   // it was written: what else the upstream says is dropped
}

// pump reads from one side until it ends, and then closes both.
func (r *relay) pump(from io.Reader, send func([]byte) error) {
	defer func() { _, _ = r.client.Close(), r.upstream.Close() }()
	buf := make([]byte, relayBuffer)
	for {
		n, err := from.Read(buf)
		if n > 0 && send(buf[:n]) != nil || err != nil {
			return
		}
	}
}

const relayBuffer = 16 << 10

func (r *relay) sendUp(p []byte) error {
	r.mu.Lock()
	if _, complete := r.up.follow(p, false); complete {
		r.owed = true
	}
	r.mu.Unlock()
	_, err := r.upstream.Write(p)
	return err
}

// sendDown writes to the client, up to the boundary at which the connection is closed.
func (r *relay) sendDown(p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.said {
		return nil
	}
	n, complete := r.down.follow(p, r.farewell != nil)
	r.owed = r.owed && !complete
	if _, err := r.client.Write(p[:n]); err != nil {
		return err
	}
	return r.sayFarewell()
}

// sayFarewell writes the close if it is wanted, and this is a moment for it.
func (r *relay) sayFarewell() error {
	if r.farewell == nil || r.said || r.owed || !r.up.isBetween() || !r.down.isBetween() {
		return nil
	}
	r.said = true
	_, err := r.client.Write(r.farewell)
	return err
}

// drain closes the connection when its turn has come. The client answers with a close of its own, which ends the
// upstream's side as well.
func (r *relay) drain(ctx context.Context) {
	code, reason, deadline, ok := awaitTurn(ctx, r.over)
	if !ok {
		return
	}
	r.close(code, reason, false)
	select {
	case <-time.After(min(boundaryLimit, time.Until(deadline)/2)):
		r.close(code, reason, true)
	case <-r.over:
	}
}

// close wants the close. If late, it does not wait any more for an answer that seems to be owed.
func (r *relay) close(code ws.StatusCode, reason string, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed = r.owed && !late
	payload := append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	r.farewell = append([]byte{finalBit | opClose, byte(len(payload))}, payload...)
	_ = r.sayFarewell()
}

// messages follows the frames of one direction, in bytes that come in pieces. It checks nothing.
type messages struct {
	frameHead
	left uint64 // bytes of the payload that are still to come
	open bool   // the message goes on in another frame
}

// isBetween reports whether the next byte begins a message.
func (m *messages) isBetween() bool { return m.have == 0 && !m.open }

// follow looks at p; if stop, only up to the end of a message. complete: there was one, of data.
func (m *messages) follow(p []byte, stop bool) (n int, complete bool) {
	for n < len(p) && (!stop || n == 0 || !m.isBetween()) {
		if !m.isComplete() {
			if m.add(p[n]) {
				m.left = m.length()
			}
			n++
		} else {
			k := min(m.left, uint64(len(p)-n))
			m.left -= k
			n += int(k)
		}
		if m.isComplete() && m.left == 0 {
			complete = m.end() || complete
		}
	}
	return n, complete
}

// end is called when a frame is complete, and reports whether a message of data is.
func (m *messages) end() bool {
	m.have = 0
	if m.opcode() >= opClose {
		return false // between the frames of a message, too
	}
	m.open = m.head[0]&finalBit == 0
	return !m.open
}
