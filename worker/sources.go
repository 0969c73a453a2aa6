package worker

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// sources knows the address of this machine that each client has written to, for a UDP socket that is bound to all
// addresses: the kernel would answer from the one that its routes prefer. The methods of a nil *sources know nothing.
type sources struct {
	mu        sync.Mutex
	now, last map[netip.AddrPort][]byte // for each client the control message that says so
}

// sourcesMax is how many clients are known at least, if there are so many. The others are answered as the kernel likes.
const sourcesMax = 1 << 16

// newSources has the kernel say where datagrams were sent to.
func newSources(u *net.UDPConn) (*sources, error) {
	err := rawfd.Control(u, func(fd int) error {
		family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil {
			return err
		}
		if family == unix.AF_INET6 {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	})
	if err != nil {
		return nil, err
	}
	return &sources{now: map[netip.AddrPort][]byte{}}, nil
}

// buffer is for the control messages of a datagram.
func (s *sources) buffer() []byte {
	if s == nil {
		return nil
	}
	return make([]byte, unix.CmsgSpace(unix.SizeofInet6Pktinfo))
}

// note notes where a datagram was sent to.
func (s *sources) note(from net.Addr, oob []byte) {
	client, ok := from.(*net.UDPAddr)
	if s == nil || !ok {
		return
	}
	source := sourceOf(oob)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.now) >= sourcesMax {
		s.now, s.last = map[netip.AddrPort][]byte{}, s.now
	}
	s.now[clientOf(client)] = source
}

// of returns the control message by which a client is answered; nil: the kernel chooses.
func (s *sources) of(client *net.UDPAddr) []byte {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if source, ok := s.now[clientOf(client)]; ok {
		return source
	}
	return s.last[clientOf(client)]
}

func clientOf(a *net.UDPAddr) netip.AddrPort {
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// sourceOf turns what came with a datagram into what goes with the answer.
func sourceOf(oob []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		is := func(level, kind int32, size int) bool {
			return m.Header.Level == level && m.Header.Type == kind && len(m.Data) >= size
		}
		switch {
		case is(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo):
			return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[4:8])})
		case is(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo):
			return source6([16]byte(m.Data[:16]), m.Data[16:20])
		}
	}
	return nil
}

// source6 answers from an address of IPv6, or one of IPv4 on a socket for both. A link-local one needs its interface.
func source6(address [16]byte, ifindex []byte) []byte {
	a := netip.AddrFrom16(address)
	info := &unix.Inet6Pktinfo{Addr: address}
	switch {
	case a.Unmap().IsMulticast():
		return nil
	case a.IsLinkLocalUnicast():
		info.Ifindex = binary.NativeEndian.Uint32(ifindex)
	}
	return unix.PktInfo6(info)
}
