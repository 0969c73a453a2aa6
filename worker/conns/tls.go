package conns

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"time"
)

// handshakeTimeout is how long a TLS handshake may take from its first byte on, and how long it may take to begin:
// clients that connect before they need to shake hands as well.
const handshakeTimeout = 10 * time.Second

// secured is a TLS connection as a Socket.
type secured struct {
	*tls.Conn
	below *belowTLS
}

func newSecured(nc net.Conn, out *sender, config *tls.Config) *secured {
	below := &belowTLS{Conn: nc, out: out}
	return &secured{Conn: tls.Server(below, config), below: below}
}

// CloseWrite says that nothing more will be written, in TLS and below.
func (t *secured) CloseWrite() error {
	_ = t.Conn.CloseWrite()
	return t.below.CloseWrite()
}

// abort closes without a word. Close would first say goodbye, and wait for a client that does not read.
func (t *secured) abort() { _ = t.below.Close() }

// poll reads what is there, without waiting. Deadlines do not matter.
func (t *secured) poll(p []byte) int {
	t.below.polling = true
	n, _ := t.Conn.Read(p)
	t.below.polling = false
	return n
}

// handshake does the handshake. limit is how long it may take to begin.
func (t *secured) handshake(limit time.Duration) error {
	t.below.await(limit)
	err := t.Handshake()
	t.below.begin()
	if err == nil {
		_ = t.SetDeadline(time.Time{})
	}
	return err
}

// silentUntil is how long the handshake's first byte is waited for. It is zero when it has come.
func (t *secured) silentUntil() time.Time {
	t.below.mu.Lock()
	defer t.below.mu.Unlock()
	if t.below.began {
		return time.Time{}
	}
	return t.below.until
}

// belowTLS is the socket below a TLS connection.
//
// Threading: polling belongs to the goroutine that reads.
type belowTLS struct {
	net.Conn
	out     *sender // without a limit until the handshake has ended
	polling bool

	mu    sync.Mutex
	began bool      // something has come
	until time.Time // before it has
}

// await limits the time until the first byte comes, if it has not.
func (b *belowTLS) await(limit time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.began {
		b.until = time.Now().Add(min(limit, handshakeTimeout))
		_ = b.Conn.SetDeadline(b.until)
	}
}

// begin gives the handshake its time, once.
func (b *belowTLS) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.began {
		b.began = true
		_ = b.Conn.SetDeadline(time.Now().Add(handshakeTimeout))
	}
}

// Read reads from the socket; without waiting while polling, as if a deadline had passed.
func (b *belowTLS) Read(p []byte) (int, error) {
	if !b.polling {
		n, err := b.Conn.Read(p)
		if n > 0 && !b.began { // only this goroutine changes it, or one that runs before or after
			b.begin()
		}
		return n, err
	}
	if n := poll(b.out.sock, p); n > 0 {
		return n, nil
	}
	return 0, os.ErrDeadlineExceeded
}

// Write writes within the limits of the sender: a TLS connection does not outlive a write that has failed, so it must
// not see a deadline that means nothing.
func (b *belowTLS) Write(p []byte) (int, error) { return b.out.Write(p) }

// CloseWrite says that nothing more will be written.
func (b *belowTLS) CloseWrite() error { return b.out.sock.CloseWrite() }

// SetWriteDeadline is TLS's own, for its goodbye, and the protocol's.
func (b *belowTLS) SetWriteDeadline(t time.Time) error { return b.out.SetWriteDeadline(t) }

// SetDeadline sets both deadlines.
func (b *belowTLS) SetDeadline(t time.Time) error {
	if err := b.out.SetWriteDeadline(t); err != nil {
		return err
	}
	return b.SetReadDeadline(t)
}
