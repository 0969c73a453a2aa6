package httpworker

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sending is the writing side of a socket, below TLS: it ends a write of which the client takes nothing for the limit. What
// a client takes is what its side has acknowledged: the kernel's own buffers may be large, and a client that reads slowly
// makes room in them rarely.
//
// As in [clock] the socket's deadline is armed rarely, and asked what it means when it has fired. The end is found by
// looks, of which a limit has four: it comes up to a quarter late.
type sending struct {
	sock socket

	mu    sync.Mutex
	limit time.Duration // 0 or less: there is none
	armed time.Time     // the socket's deadline
	user  time.Time     // net/http's or the handler's: as long as there is one it alone counts
	end   time.Time     // of waiting for the client to take something
	acked uint64        // at the last look
	ended bool          // the client has taken nothing for the limit
}

// looksPerLimit is how often a write that blocks looks whether the client takes anything.
const looksPerLimit = 4

// write writes all of p, or what the client takes.
func (k *sending) write(p []byte) (done int, err error) {
	k.begin()
	for {
		n, err := k.sock.Write(p[done:])
		done += n
		if err == nil || !k.goesOn(n > 0, err) {
			return done, err
		}
	}
}

// send writes what r, a file, has.
func (k *sending) send(to stream, r io.Reader) (done int64, err error) {
	k.begin()
	for {
		n, err := to.ReadFrom(r)
		done += n
		if err == nil || !k.goesOn(n > 0, err) {
			return done, err
		}
	}
}

// begin prepares a write.
func (k *sending) begin() {
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

func (k *sending) arm(t time.Time) {
	k.armed = t
	_ = k.sock.SetWriteDeadline(t)
}

// goesOn is asked when a write has failed: whether that was only an early deadline, and the rest is to be written. wrote:
// it has written something.
func (k *sending) goesOn(wrote bool, err error) bool {
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
func (k *sending) took(wrote bool) bool {
	info, err := tcpInfo(k.sock)
	if err != nil {
		return wrote
	}
	before := k.acked
	k.acked = info.Bytes_acked
	return k.acked != before
}

func tcpInfo(sock socket) (info *unix.TCPInfo, err error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if cerr != nil {
		return nil, cerr
	}
	return info, err
}

// gaveUp reports that the client does not read, so that there is no use in saying goodbye.
func (k *sending) gaveUp() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

// setUser sets the deadline that alone counts, or with zero gives the limit back its place. Taking one away is not worth a
// call.
func (k *sending) setUser(t time.Time) error {
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
func (k *sending) setLimit(limit time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit = limit
	if limit <= 0 && !k.armed.Equal(k.user) {
		k.arm(k.user)
	}
}

// isFile reports whether r is a file with a size, or the beginning of one: what sendfile(2) reads by the file's own offset, so
// that a write that has ended early can go on.
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
