package httpworker

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// handshakeTimeout is how long a TLS handshake may take from its first byte on, and how long it may take to begin: clients that
// connect before they need to shake hands as well.
const handshakeTimeout = 10 * time.Second

// tlsSocket is a TLS connection as what a conn wraps: the conn sees requests, and knows nothing of records. It is the
// server's end.
type tlsSocket struct {
	*tls.Conn
	below *belowTLS
}

func newTLSSocket(sock socket, config *tls.Config) *tlsSocket {
	below := &belowTLS{socket: sock, out: sending{sock: sock}}
	return &tlsSocket{Conn: tls.Server(below, config), below: below}
}

// SyscallConn is that of the socket below.
func (t *tlsSocket) SyscallConn() (syscall.RawConn, error) { return t.below.SyscallConn() }

// CloseWrite says that nothing more will be written, in TLS and below.
func (t *tlsSocket) CloseWrite() error {
	_ = t.Conn.CloseWrite()
	return t.below.CloseWrite()
}

// abort closes without a word. Close would first say goodbye, and wait for a client that does not read.
func (t *tlsSocket) abort() { _ = t.below.Close() }

// look reads what is there, without waiting. Deadlines do not matter.
func (t *tlsSocket) look(p []byte) int {
	t.below.looking = true
	n, _ := t.Conn.Read(p)
	t.below.looking = false
	return n
}

// handshake does the handshake. limit is how long it may take to begin.
func (t *tlsSocket) handshake(limit time.Duration) error {
	t.below.await(limit)
	err := t.Conn.Handshake()
	t.below.begun()
	if err == nil {
		_ = t.Conn.SetDeadline(time.Time{})
	}
	return err
}

// hurry shortens the time that a handshake may take to begin.
func (t *tlsSocket) hurry(limit time.Duration) { t.below.await(limit) }

// silentUntil is how long the handshake's first byte is waited for. It is zero when it has come.
func (t *tlsSocket) silentUntil() time.Time {
	t.below.mu.Lock()
	defer t.below.mu.Unlock()
	if t.below.began {
		return time.Time{}
	}
	return t.below.until
}

// belowTLS is the socket below a TLS connection.
//
// Threading: looking belongs to who reads.
type belowTLS struct {
	socket
	out     sending // without a limit until the handshake has ended
	looking bool

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
		_ = b.socket.SetDeadline(b.until)
	}
}

// begun gives the handshake its time, once.
func (b *belowTLS) begun() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.began {
		b.began = true
		_ = b.socket.SetDeadline(time.Now().Add(handshakeTimeout))
	}
}

// Read reads from the socket; without waiting while looking, as if a deadline had passed.
func (b *belowTLS) Read(p []byte) (int, error) {
	if !b.looking {
		n, err := b.socket.Read(p)
		if n > 0 && !b.began { // only this goroutine changes it, or one that runs before or after
			b.begun()
		}
		return n, err
	}
	if n := receive(b.socket, p); n > 0 {
		return n, nil
	}
	return 0, os.ErrDeadlineExceeded
}

// Write writes within the limits of sending: a TLS connection does not outlive a write that has failed, so it must not see
// a deadline that means nothing.
func (b *belowTLS) Write(p []byte) (int, error) { return b.out.write(p) }

// SetWriteDeadline is TLS's own, for its goodbye, and the conn's.
func (b *belowTLS) SetWriteDeadline(t time.Time) error { return b.out.setUser(t) }

// SetDeadline sets both deadlines.
func (b *belowTLS) SetDeadline(t time.Time) error {
	if err := b.out.setUser(t); err != nil {
		return err
	}
	return b.socket.SetReadDeadline(t)
}

// receive reads from the socket without waiting, whatever its deadline. It returns 0 if there is nothing.
func receive(sock socket, p []byte) int {
	raw, err := sock.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n, _, _ = syscall.Recvfrom(int(fd), p, syscall.MSG_DONTWAIT) })
	return max(n, 0)
}

var _ net.Conn = (*tlsSocket)(nil)
