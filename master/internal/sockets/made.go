package sockets

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Made is a socket that somebody else has made.
type Made struct {
	Network string // tcp, udp or unix; "" if it is nothing that can be listened on here

	host string
	port int
	path string
}

// Inspect looks at a descriptor, of whatever kind.
func Inspect(fd int) Made {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return Made{}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return Made{}
	}
	m := Made{Network: map[int]string{unix.SOCK_STREAM: "tcp", unix.SOCK_DGRAM: "udp"}[kind]}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		m.host, m.port = net.IP(sa.Addr[:]).String(), sa.Port
	case *unix.SockaddrInet6:
		m.host, m.port = net.IP(sa.Addr[:]).String()+zoneName(sa.ZoneId), sa.Port
	case *unix.SockaddrUnix:
		m.path = sa.Name
		if filepath.IsAbs(m.path) {
			m.path = realPath(m.path)
		}
		if m.Network != "tcp" {
			return Made{}
		}
		m.Network = "unix"
	default:
		return Made{}
	}
	return m
}

func zoneName(id uint32) string {
	if id == 0 {
		return ""
	}
	if i, err := net.InterfaceByIndex(int(id)); err == nil {
		return "%" + i.Name
	}
	return "%" + strconv.Itoa(int(id))
}

// Kind is what the socket is, in words.
func (m Made) Kind() string {
	switch m.Network {
	case "tcp":
		return "TCP socket"
	case "udp":
		return "UDP socket"
	case "unix":
		return "Unix stream socket"
	}
	return "descriptor"
}

// String is the kind and the address.
func (m Made) String() string {
	switch m.Network {
	case "":
		return m.Kind() + " of another kind"
	case "unix":
		return m.Kind() + " " + m.path
	}
	return fmt.Sprintf("%s %s", m.Kind(), net.JoinHostPort(m.host, strconv.Itoa(m.port)))
}

// Has reports whether the socket has the address a. Port 0 is any port. Of an IPv6 wildcard nobody is asked whether it is
// IPv4 as well: that is for whoever made it.
func (m Made) Has(a Addr) bool {
	switch {
	case m.Network != a.Network:
		return false
	case m.Network == "unix":
		return m.path == a.Path
	case a.port != 0 && a.port != m.port:
		return false
	}
	return m.host == a.host
}

// Group is the [Addr.Group] of the socket's address.
func (m Made) Group() string {
	if m.Network == "unix" {
		return m.Network + "/" + m.path
	}
	return m.Network + "/" + strconv.Itoa(m.port)
}
