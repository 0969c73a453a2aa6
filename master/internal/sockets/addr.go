package sockets

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Addr is a resolved address.
type Addr struct {
	Network string // tcp, udp or unix
	Path    string // of a Unix socket, absolute

	// ReusePort makes Bind share the address with other sockets of this user that have it as well.
	ReusePort bool

	sa     unix.Sockaddr
	family int
	port   int
	host   string
}

// Resolve reads an address as people write it: "host:port", ":port", "unix:/path" or "/path". transport is tcp, tls
// or udp. A relative path is relative to dir.
func Resolve(address, transport, dir string) (Addr, error) {
	if path, ok := unixPath(address); ok {
		if transport == "udp" {
			return Addr{}, fmt.Errorf("listen %s: a Unix socket carries no udp", address)
		}
		if path == "" {
			return Addr{}, fmt.Errorf("listen %s: no path", address)
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return Addr{Network: "unix", Path: filepath.Clean(path), family: unix.AF_UNIX}, nil
	}
	if address == "" { // which the resolver takes for any port of any interface
		return Addr{}, errors.New("listen: no address")
	}
	network := "tcp"
	if transport == "udp" {
		network = "udp"
	}
	ta, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return Addr{}, fmt.Errorf("listen %s: %w", address, err)
	}
	return inetAddr(network, ta), nil
}

func unixPath(address string) (string, bool) {
	if p, ok := strings.CutPrefix(address, "unix:"); ok {
		return p, true
	}
	return address, strings.HasPrefix(address, "/")
}

// inetAddr does as net.Listen: a wildcard of any kind is both families where there is IPv6.
func inetAddr(network string, ta *net.TCPAddr) Addr {
	a := Addr{Network: network, port: ta.Port}
	ip4 := ta.IP.To4()
	switch wild := len(ta.IP) == 0 || ta.IP.IsUnspecified(); {
	case wild && haveIPv6():
		a.family, a.sa, a.host = unix.AF_INET6, &unix.SockaddrInet6{Port: ta.Port}, "::"
	case wild:
		a.family, a.sa, a.host = unix.AF_INET, &unix.SockaddrInet4{Port: ta.Port}, "0.0.0.0"
	case ip4 != nil:
		sa := &unix.SockaddrInet4{Port: ta.Port}
		copy(sa.Addr[:], ip4)
		a.family, a.sa, a.host = unix.AF_INET, sa, ip4.String()
	default:
		sa := &unix.SockaddrInet6{Port: ta.Port, ZoneId: zoneID(ta.Zone)}
		copy(sa.Addr[:], ta.IP.To16())
		a.family, a.sa, a.host = unix.AF_INET6, sa, ta.IP.String()
		if ta.Zone != "" {
			a.host += "%" + ta.Zone
		}
	}
	return a
}

func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if i, err := net.InterfaceByName(zone); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.Atoi(zone)
	return uint32(n)
}

func haveIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}) == nil
}

// Group names what can stand in for each other: sockets on the same port, of whatever address. With port 0 the kernel
// chooses, so there the listener's name takes part.
func (a Addr) Group(name string) string {
	switch {
	case a.Network == "unix":
		return a.Network + "/" + a.Path
	case a.port == 0:
		return a.Network + "/#" + name
	}
	return a.Network + "/" + strconv.Itoa(a.port)
}

// Host is the IP address, or the path of a Unix socket.
func (a Addr) Host() string {
	if a.Network == "unix" {
		return a.Path
	}
	return a.host
}

// Covers reports whether whoever connects to host b may as well reach a socket on host a.
func Covers(a, b string) bool {
	return a == b || a == "::" || a == "0.0.0.0" && !strings.Contains(b, ":")
}

// Shared is the slot of a socket that all workers share.
const Shared = -1

// Key names the socket of a slot, or the Shared one, in the store: the same address is the same key, however it is
// written. With port 0 the kernel chooses, so there the listener's name takes part.
func (a Addr) Key(name string, slot int) string {
	where := a.Path
	if a.Network != "unix" {
		where = net.JoinHostPort(a.host, strconv.Itoa(a.port))
		if a.port == 0 {
			where += "#" + name
		}
	}
	if slot == Shared {
		return a.Network + "/" + where
	}
	return fmt.Sprintf("%s/%s/%d", a.Network, where, slot)
}

// Local is the address that a socket has, in words.
func Local(fd int) string {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return (&net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}).String()
	case *unix.SockaddrInet6:
		return (&net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}).String()
	case *unix.SockaddrUnix:
		return "unix:" + sa.Name
	}
	return ""
}
