package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// packetConn is a shared UDP socket as a worker holds it: its reading opens at GO and ends with the drain, its writing
// goes on until Close. Deadlines are this process's; the socket itself is never touched.
type packetConn struct {
	env *Env
	udp *net.UDPConn // not embedded: its other ways to read would not wait for GO

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
	return &packetConn{env: env, udp: u, done: make(chan struct{})}, nil
}

// ReadFrom waits for GO and then for a datagram. A drain makes it return net.ErrClosed.
func (p *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case <-p.env.granted:
	case <-p.done:
	}
	if p.state() == readOpen {
		n, from, err := p.udp.ReadFrom(b)
		if err == nil || p.state() == readOpen {
			return n, from, err
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
	raw, err := p.udp.SyscallConn()
	if err != nil {
		return 0, nil, net.ErrClosed
	}
	cerr := raw.Control(func(fd uintptr) {
		var sa unix.Sockaddr
		for {
			n, sa, err = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNREFUSED) { // that one is of an answer
				break
			}
		}
		from = udpAddr(sa)
	})
	if cerr != nil || err != nil {
		p.mu.Lock()
		p.reading = readEnded
		p.mu.Unlock()
		return 0, nil, net.ErrClosed
	}
	return n, from, nil
}

func udpAddr(sa unix.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.UDPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		a := &net.UDPAddr{IP: sa.Addr[:], Port: sa.Port}
		if sa.ZoneId != 0 {
			a.Zone = strconv.Itoa(int(sa.ZoneId))
		}
		return a
	}
	return nil
}

// drain ends the reading: at once, or with ends when the queue is empty. deaf: another socket takes over the port, if any.
func (p *packetConn) drain(ends, deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reading != readOpen {
		return
	}
	p.reading = readEnded
	if ends {
		if deaf {
			p.deafen()
		}
		p.reading = readEnding
	}
	close(p.done)
	_ = p.udp.SetReadDeadline(time.Unix(1, 0)) // wakes ReadFrom
}

// deafen has the kernel put nothing more into the socket: what comes goes to another one that serves the port, as when
// 127.0.0.1 has become 0.0.0.0, and is not lost between our last look and the close. The socket is connected, to itself,
// for all who hold it; it answers everybody all the same. One that is bound to every address is left as it is: it would
// answer from a single one from then on, and any other socket is preferred to it.
func (p *packetConn) deafen() {
	local, ok := p.udp.LocalAddr().(*net.UDPAddr)
	if !ok || local.IP.IsUnspecified() {
		return
	}
	if raw, err := p.udp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			if self, err := unix.Getsockname(int(fd)); err == nil {
				_ = unix.Connect(int(fd), self)
			}
		})
	}
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

func (p *packetConn) WriteTo(b []byte, to net.Addr) (int, error) { return p.udp.WriteTo(b, to) }
func (p *packetConn) SetWriteDeadline(t time.Time) error         { return p.udp.SetWriteDeadline(t) }
func (p *packetConn) LocalAddr() net.Addr                        { return p.udp.LocalAddr() }

// Close gives up this process's hold on the socket.
func (p *packetConn) Close() error {
	p.drain(false, false)
	return p.udp.Close()
}
