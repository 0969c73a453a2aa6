// Package rawfd does with raw descriptors what package os cannot: an os.File would put them into the poller, and into
// non-blocking mode for all processes that share them.
package rawfd

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dup returns a close-on-exec duplicate of fd. The flags of the shared description stay as they are.
func Dup(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("dup: %w", err)
	}
	return n, nil
}

// Of returns a duplicate of the descriptor of c, a [syscall.Conn]. Their own File methods would make the description
// blocking.
func Of(c any) (fd int, err error) {
	err = Control(c, func(of int) (err error) {
		fd, err = Dup(of)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// Control calls f with the descriptor of c, a [syscall.Conn], which is not closed meanwhile.
func Control(c any, f func(fd int) error) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T: %w", c, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	k := calls.Get().(*call) //nolint:forcetypeassert // there is nothing else in it
	defer calls.Put(k)
	k.f, k.err = f, nil
	err = raw.Control(k.run)
	k.f = nil
	if err != nil {
		return err
	}
	return k.err
}

// call is one call of f by Control. They are used again: three calls for each new connection would be worth four per cent
// of its CPU in garbage.
type call struct {
	f   func(fd int) error
	err error
	run func(fd uintptr)
}

var calls = sync.Pool{New: func() any {
	k := &call{}
	k.run = func(fd uintptr) { k.err = k.f(int(fd)) }
	return k
}}

// Peer returns the credentials of the process at the other end of c, a Unix socket, as the kernel saw it when it
// connected or listened.
func Peer(c any) (cred *unix.Ucred, err error) {
	err = Control(c, func(fd int) (err error) {
		cred, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return cred, nil
}

// Listens reports whether fd is a socket that clients may connect to.
func Listens(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && v != 0
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// Readable reports whether bytes have come on a connection that nobody has read. The end of the stream is none.
func Readable(fd int) bool {
	var b [1]byte
	n, _, _ := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n > 0
}

// Polled returns those of events that fd is ready for, POLLERR and POLLHUP included, and 0 if it is for none.
func Polled(fd int, events int16) int16 {
	p := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for {
		n, err := unix.Poll(p, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil, n == 0:
			return 0
		}
		return p[0].Revents
	}
}

// Send sends one message without waiting. An interrupted call is made again.
func Send(fd int, data, oob []byte) error {
	for {
		err := unix.Sendmsg(fd, data, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// Exhausted reports that the process, or the kernel, has no room for one more descriptor or what belongs to it.
func Exhausted(err error) bool {
	lacks := []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ENOSPC}
	return slices.ContainsFunc(lacks, func(lack error) bool { return errors.Is(err, lack) })
}

// Headroom is how many descriptors stay free for what is to be done with the last ones: to open a connection takes one
// more.
const Headroom = 16

// NearLimit reports whether descriptors that were just made are among the last that the process may have. The kernel
// gives the lowest number that is free.
func NearLimit(fds ...int) bool {
	var limit unix.Rlimit
	if len(fds) == 0 || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return false
	}
	return uint64(slices.Max(fds)+Headroom) >= limit.Cur
}

// Addr returns a socket's address as package net has it; network is tcp, udp or unix. It is nil for other families.
func Addr(sa unix.Sockaddr, network string) net.Addr {
	var ip net.IP
	var port int
	var zone string
	switch sa := sa.(type) {
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: sa.Name, Net: "unix"}
	case *unix.SockaddrInet4:
		ip, port = sa.Addr[:], sa.Port
	case *unix.SockaddrInet6:
		ip, port = sa.Addr[:], sa.Port
		if sa.ZoneId != 0 {
			zone = strconv.Itoa(int(sa.ZoneId))
		}
	default:
		return nil
	}
	if network == "udp" {
		return &net.UDPAddr{IP: ip, Port: port, Zone: zone}
	}
	return &net.TCPAddr{IP: ip, Port: port, Zone: zone}
}
