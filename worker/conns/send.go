package conns

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// Socket is what a connection is made of. A *net.TCPConn and a *net.UnixConn are one.
type Socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// sender is the writing side of a socket, below TLS: it ends a write of which the client takes nothing for the limit.
// What a client takes is what its side has acknowledged: the kernel's own buffers may be large, and a client that
// reads slowly makes room in them rarely.
//
// As in [clock] the socket's deadline is armed rarely, and asked what it means when it has fired. The end is found by
// looks, of which a limit has four: it comes up to a quarter late.
type sender struct {
	sock Socket

	mu    sync.Mutex
	limit time.Duration // 0 or less: there is none
	armed time.Time     // the socket's deadline
	user  time.Time     // the protocol's: as long as there is one it alone counts
	end   time.Time     // of waiting for the client to take something
	acked uint64        // at the last look
	ended bool          // the client has taken nothing for the limit
}

// looksPerLimit is how often a write that blocks looks whether the client takes anything.
const looksPerLimit = 4

// Write writes all of p, or what the client takes.
func (k *sender) Write(p []byte) (done int, err error) {
	k.begin()
	for {
		n, err := k.sock.Write(p[done:])
		done += n
		if err == nil || !k.goesOn(n > 0, err) {
			return done, err
		}
	}
}

// ReadFrom writes what r has, without a copy through this process if it is a file and the kernel can.
func (k *sender) ReadFrom(r io.Reader) (done int64, err error) {
	to, ok := k.sock.(io.ReaderFrom)
	if !ok || k.limits() && !isFile(r) { // of another r a write that has ended early could not go on
		return io.Copy(struct{ io.Writer }{k}, r)
	}
	k.begin()
	for {
		n, err := to.ReadFrom(r)
		done += n
		if err == nil || !k.goesOn(n > 0, err) {
			return done, err
		}
	}
}

// isFile reports whether r is a file with a size, or the beginning of one: what sendfile(2) reads by the file's own
// offset, so that a write that has ended early can go on.
func isFile(r io.Reader) bool {
	if limited, ok := r.(*io.LimitedReader); ok {
		r = limited.R
	}
	file, ok := r.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() > 0
}

// begin prepares a write.
func (k *sender) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.limit <= 0 || !k.user.IsZero() {
		return
	}
	now := time.Now()
	k.end = now.Add(k.limit)
	if !k.armed.After(now) || k.armed.After(k.end) {
		k.arm(now.Add(k.limit / looksPerLimit))
	}
}

func (k *sender) arm(t time.Time) {
	k.armed = t
	_ = k.sock.SetWriteDeadline(t)
}

// goesOn is asked when a write has failed: whether that was only an early deadline, and the rest is to be written.
// wrote: it has written something.
func (k *sender) goesOn(wrote bool, err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now, end := time.Now(), k.user
	if end.IsZero() {
		if k.limit <= 0 {
			return false
		}
		if k.took(wrote) {
			k.end = now.Add(k.limit)
		}
		end = k.end
	}
	if !now.Before(end) {
		k.ended = true
		return false
	}
	if look := now.Add(k.limit / looksPerLimit); k.user.IsZero() && look.Before(end) {
		end = look
	}
	k.arm(end)
	return true
}

// took reports whether the client has taken something since the last look. Where the kernel does not tell, as of Unix
// sockets, it has when there was room to write.
func (k *sender) took(wrote bool) bool {
	var info *unix.TCPInfo
	err := rawfd.Control(k.sock, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	if err != nil {
		return wrote
	}
	before := k.acked
	k.acked = info.Bytes_acked
	return k.acked != before
}

// gaveUp reports that the client does not read, so that there is no use in saying goodbye.
func (k *sender) gaveUp() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

func (k *sender) limits() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.limit > 0
}

// SetWriteDeadline sets the deadline that alone counts, or with zero gives the limit back its place. Taking one away is
// not worth a call.
func (k *sender) SetWriteDeadline(t time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.user = t
	if t.IsZero() && k.limit > 0 {
		return nil
	}
	k.armed = t
	return k.sock.SetWriteDeadline(t)
}

// setLimit begins to keep the limit, or with 0 leaves the connection to others, with the deadline that they have set.
func (k *sender) setLimit(limit time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit = limit
	if limit <= 0 && !k.armed.Equal(k.user) {
		k.arm(k.user)
	}
}

// poll reads from a socket without waiting, whatever its deadline. It returns 0 if there is nothing.
func poll(sock syscall.Conn, p []byte) (n int) {
	_ = rawfd.Control(sock, func(fd int) (err error) {
		n, _, err = unix.Recvfrom(fd, p, unix.MSG_DONTWAIT)
		return err
	})
	return max(n, 0)
}
