// Package seqpacket is one end of a SOCK_SEQPACKET socketpair that carries [wire] messages with descriptors:
// every message arrives whole or not at all, and death of the other side is end-of-file.
package seqpacket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/wire"
)

// Pair returns the two raw, non-blocking, close-on-exec ends of a new socketpair.
func Pair() (ours, theirs int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("socketpair: %w", err)
	}
	return p[0], p[1], nil
}

// A Packet is a message as received, with the descriptors that came along; they are the receiver's.
type Packet struct {
	Frame wire.Frame
	FDs   []int
}

// Close closes the descriptors that nobody took.
func (p *Packet) Close() {
	rawfd.CloseAll(p.FDs)
	p.FDs = nil
}

// TakeFD gives the first descriptor to the caller, or -1.
func (p *Packet) TakeFD() int {
	if len(p.FDs) == 0 {
		return -1
	}
	fd := p.FDs[0]
	p.FDs = p.FDs[1:]
	return fd
}

// TakeFDs gives all descriptors to the caller.
func (p *Packet) TakeFDs() []int {
	fds := p.FDs
	p.FDs = nil
	return fds
}

// maxQueue bounds what is kept for a peer that does not read. A peer so far behind is as good as dead.
const maxQueue = 4096

// ErrBacklog is what Post returns when the peer has not read for maxQueue messages.
var ErrBacklog = errors.New("seqpacket: send queue full")

type outgoing struct {
	data []byte
	fds  []int
}

// A Conn is one end. Recv is for one goroutine; Post is for any.
type Conn struct {
	uc  *net.UnixConn
	buf []byte // of Recv

	closed chan struct{} // by Close

	mu    sync.Mutex
	queue []outgoing // sendQueue runs if there are any
	lost  error      // what ended the conversation for a message that was queued, or Close
	empty *sync.Cond // the queue is
}

// New makes a Conn of a raw descriptor, which it owns from then on, also when it fails.
func New(fd int) (*Conn, error) {
	f := os.NewFile(uintptr(fd), "seqpacket")
	if f == nil {
		return nil, fmt.Errorf("seqpacket: fd %d is not open", fd)
	}
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("seqpacket: %w", err)
	}
	uc, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, fmt.Errorf("seqpacket: fd %d is a %T", fd, c)
	}
	conn := &Conn{uc: uc, closed: make(chan struct{})}
	conn.empty = sync.NewCond(&conn.mu)
	return conn, nil
}

// ErrCut is what Recv returns for a message with descriptors that this process could not take, mostly because it has
// too many open files. The message is lost, and nothing of it is left open; the conversation may go on.
var ErrCut = fmt.Errorf("seqpacket: a message was lost with its descriptors: %w", syscall.EMFILE)

// Recv blocks for the next message. io.EOF means that the other side is gone. A message that is not of
// this protocol is an error that ends the conversation; one of an unknown kind is not.
func (c *Conn) Recv() (Packet, error) {
	if c.buf == nil {
		c.buf = make([]byte, wire.MaxFrame+rightsSpace)
	}
	buf, oob := c.buf[:wire.MaxFrame], c.buf[wire.MaxFrame:]
	n, oobn, flags, _, err := c.uc.ReadMsgUnix(buf, oob)
	if errors.Is(err, syscall.ECONNRESET) {
		// Said once, of a peer that has closed without having read all of ours. What it said before is still there.
		n, oobn, flags, _, err = c.uc.ReadMsgUnix(buf, oob)
	}
	if err != nil {
		return Packet{}, err
	}
	return parse(buf[:n], oob[:oobn], flags)
}

// Receive reads one message from a raw descriptor, as Recv does, without waiting.
func Receive(fd int) (Packet, error) {
	buf, oob := make([]byte, wire.MaxFrame), make([]byte, rightsSpace)
	n, oobn, flags, _, err := unix.Recvmsg(fd, buf, oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return Packet{}, err
	}
	return parse(buf[:n], oob[:oobn], flags)
}

// rightsSpace is the room for the descriptors of a message, and for one more: too many are noticed.
var rightsSpace = unix.CmsgSpace(4 * (wire.MaxFDs + 1))

// parse makes a Packet of what was received.
func parse(data, oob []byte, flags int) (p Packet, err error) {
	if p.FDs, err = rights(oob); err != nil {
		return Packet{}, err
	}
	switch {
	case len(data) == 0:
		err = io.EOF
	case flags&unix.MSG_TRUNC != 0:
		err = fmt.Errorf("seqpacket: a message of more than %d bytes", wire.MaxFrame)
	case flags&unix.MSG_CTRUNC != 0:
		err = ErrCut
	default:
		p.Frame, err = wire.Decode(data)
	}
	if err != nil {
		p.Close()
	}
	return p, err
}

func rights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("seqpacket: control message: %w", err)
	}
	var fds []int
	for i := range msgs {
		got, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials and the like
		}
		fds = append(fds, got...)
	}
	return fds, nil
}

// Post sends m with duplicates of fds. It never blocks: what the kernel does not take at once is kept, in order, and
// sent when the peer has read, or when the kernel has room for descriptors again. An error means that the peer is gone
// or does not read; what was kept until then is lost with it.
func (c *Conn) Post(m wire.Message, fds ...int) error {
	data, err := wire.Encode(m)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.lost != nil:
		return c.lost
	case len(c.queue) >= maxQueue:
		return ErrBacklog
	case len(c.queue) == 0:
		err := rawfd.Control(c.uc, func(fd int) error { return rawfd.Send(fd, data, rightsOf(fds)) })
		if !errors.Is(err, unix.EAGAIN) && !scarce(err) {
			return err
		}
	}
	out := outgoing{data: data}
	for _, fd := range fds {
		d, err := rawfd.Dup(fd)
		if err != nil {
			rawfd.CloseAll(out.fds)
			return err
		}
		out.fds = append(out.fds, d)
	}
	if c.queue = append(c.queue, out); len(c.queue) == 1 {
		go c.sendQueue()
	}
	return nil
}

// scarce reports an error of sendmsg that passes: the kernel has no memory, or this user has as many descriptors in
// flight as it may have open (unix(7)). A message without descriptors knows only the first.
func scarce(err error) bool {
	return errors.Is(err, unix.ETOOMANYREFS) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

func rightsOf(fds []int) []byte {
	if len(fds) == 0 {
		return nil
	}
	return unix.UnixRights(fds...)
}

// sendQueue sends what is queued, in order, and ends when the queue is empty.
func (c *Conn) sendQueue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		out := c.queue[0]
		err := c.lost
		if err == nil {
			c.mu.Unlock()
			err = c.send(out)
			c.mu.Lock()
		}
		if c.lost == nil {
			c.lost = err
		}
		rawfd.CloseAll(out.fds)
		c.queue = c.queue[1:]
	}
	c.queue = nil
	c.empty.Broadcast()
}

// Pauses after the kernel had no room: nothing tells when it has. The first one doubles up to the last.
const (
	firstPause = time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// send waits for the peer, and for the kernel, until the peer is gone or Close.
func (c *Conn) send(out outgoing) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		_, _, err := c.uc.WriteMsgUnix(out.data, rightsOf(out.fds), nil)
		if !scarce(err) || c.HungUp() {
			return err
		}
		select {
		case <-time.After(pause):
		case <-c.closed:
			return net.ErrClosed
		}
	}
}

// Flush waits until what was posted has been handed to the kernel or is lost with the peer. It is for a process
// that is about to exit.
func (c *Conn) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		c.empty.Wait()
	}
}

// StopReading makes a Recv that waits, and every later one, return os.ErrDeadlineExceeded, in this process only. What
// the peer sends from then on is for other processes that hold the socket.
func (c *Conn) StopReading() { _ = c.uc.SetReadDeadline(time.Unix(1, 0)) }

// ResumeReading undoes StopReading.
func (c *Conn) ResumeReading() { _ = c.uc.SetReadDeadline(time.Time{}) }

// FD is the number of the descriptor, which stays the Conn's. It is for a process that executes another program, in
// which a [New] of that number goes on.
func (c *Conn) FD() (int, error) {
	n := -1
	err := rawfd.Control(c.uc, func(fd int) error { n = fd; return nil })
	return n, err
}

// Idle reports whether all that was posted has been handed to the kernel, or is lost with the peer.
func (c *Conn) Idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) == 0
}

// PeerPID is the process that made the socketpair.
func (c *Conn) PeerPID() (int, error) {
	cred, err := rawfd.Peer(c.uc)
	if err != nil {
		return 0, fmt.Errorf("seqpacket: %w", err)
	}
	return int(cred.Pid), nil
}

// HungUp reports whether nobody is left at the other side. What it said may still have to be read.
func (c *Conn) HungUp() bool {
	gone := true
	_ = rawfd.Control(c.uc, func(fd int) error {
		gone = rawfd.Polled(fd, 0)&unix.POLLHUP != 0
		return nil
	})
	return gone
}

// Close ends the conversation; a Recv that waits returns.
func (c *Conn) Close() error {
	c.mu.Lock()
	if !errors.Is(c.lost, net.ErrClosed) {
		c.lost = net.ErrClosed
		close(c.closed)
	}
	c.mu.Unlock()
	return c.uc.Close()
}
