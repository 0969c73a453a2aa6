package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// packetConn is a shared UDP socket as a worker holds it: its reading opens at GO and ends with the drain, its writing
// goes on until Close. Deadlines are this process's; the socket itself is never touched.
type packetConn struct {
	env     *Env
	udp     *net.UDPConn // not embedded: its other ways to read would not wait for GO
	sources *sources     // nil: the socket has one address

	mu      sync.Mutex
	reading readState
	done    chan struct{} // closed when reading is no longer open
}

// readState is how far the reading of a packetConn has come.
type readState uint8

const (
	readOpen   readState = iota // from GO on
	readEnding                  // what is queued, without waiting
	readEnded
)

// newPacketConn takes fd. It is -1 if the drain began before anybody asked for the socket.
func newPacketConn(env *Env, fd int) (*packetConn, error) {
	if fd < 0 {
		return nil, net.ErrClosed
	}
	f := os.NewFile(uintptr(fd), "udp")
	defer func() { _ = f.Close() }() // net.FilePacketConn dups
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close()
		return nil, fmt.Errorf("a %T is not udp", pc)
	}
	p := &packetConn{env: env, udp: u, done: make(chan struct{})}
	if isWildcard(u) {
		p.sources, err = newSources(u)
	}
	if err != nil {
		_ = u.Close()
		return nil, err
	}
	return p, nil
}

func isWildcard(u *net.UDPConn) bool {
	local, ok := u.LocalAddr().(*net.UDPAddr)
	return !ok || local.IP.IsUnspecified()
}

// ReadFrom waits for GO and then for a datagram. A drain makes it return net.ErrClosed.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-p.env.granted:
	case <-p.done:
	}
	if p.state() == readOpen {
		oob := p.sources.buffer()
		n, oobn, _, from, err := p.udp.ReadMsgUDP(b, oob)
		if err == nil {
			p.sources.note(from, oob[:oobn])
			return n, from, nil
		}
		if p.state() == readOpen {
			return n, nil, err
		}
	}
	return p.readQueued(b)
}

func (p *packetConn) state() readState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reading
}

// readQueued takes one datagram without waiting; when there is none, the reading has ended. net's ReadFrom cannot be
// asked that: a deadline in the past makes it fail before it looks.
func (p *packetConn) readQueued(b []byte) (n int, from net.Addr, err error) {
	if p.state() == readEnded {
		return 0, nil, net.ErrClosed
	}
	oob, oobn := p.sources.buffer(), 0
	err = rawfd.Control(p.udp, func(fd int) error {
		for {
			var sa unix.Sockaddr
			n, oobn, _, sa, err = unix.Recvmsg(fd, b, oob, unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNREFUSED) { // that one is of an answer
				from = rawfd.Addr(sa, "udp")
				return err
			}
		}
	})
	if err != nil {
		p.mu.Lock()
		p.reading = readEnded
		p.mu.Unlock()
		return 0, nil, net.ErrClosed
	}
	p.sources.note(from, oob[:oobn])
	return n, from, nil
}

// drain ends the reading: at once, or with ends when the queue is empty. disconnect: another socket takes over the
// port, if any.
func (p *packetConn) drain(ends, disconnect bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading != readOpen {
		return
	}
	p.reading = readEnded
	if ends {
		if disconnect {
			p.stopReceiving()
		}
		p.reading = readEnding
	}
	close(p.done)
	_ = p.udp.SetReadDeadline(time.Unix(1, 0)) // wakes ReadFrom
}

// stopReceiving has the kernel put nothing more into the socket: what comes goes to another one that serves the port,
// as when 127.0.0.1 has become 0.0.0.0, and is not lost between our last look and the close. The socket is connected,
// to itself, for all processes that hold it; it answers everybody all the same. One that is bound to every address is
// left as it is: it would answer from a single one from then on, and any other socket is preferred to it.
func (p *packetConn) stopReceiving() {
	if isWildcard(p.udp) {
		return
	}
	_ = rawfd.Control(p.udp, func(fd int) error {
		self, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		return unix.Connect(fd, self)
	})
}

// SetReadDeadline is the user's, until the drain begins.
func (p *packetConn) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading != readOpen {
		return nil
	}
	return p.udp.SetReadDeadline(t)
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (p *packetConn) SetDeadline(t time.Time) error {
	if err := p.SetReadDeadline(t); err != nil {
		return err
	}
	return p.udp.SetWriteDeadline(t)
}

// WriteTo answers a client from the address that it has written to.
func (p *packetConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if u, ok := to.(*net.UDPAddr); ok {
		if source := p.sources.of(u); source != nil {
			if n, _, err := p.udp.WriteMsgUDP(b, source, u); err == nil {
				return n, nil
			} // the address is not the machine's any more, perhaps
		}
	}
	return p.udp.WriteTo(b, to)
}

// SetWriteDeadline is the user's.
func (p *packetConn) SetWriteDeadline(t time.Time) error { return p.udp.SetWriteDeadline(t) }

// LocalAddr is the socket's address.
func (p *packetConn) LocalAddr() net.Addr { return p.udp.LocalAddr() }

// Close gives up this process's hold on the socket.
func (p *packetConn) Close() error {
	p.drain(false, false)
	return p.udp.Close()
}
