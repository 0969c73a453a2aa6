package sockets

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Addr is a resolved address.
type Addr struct {
	Network string // tcp, udp or unix
	Path    string // of a Unix socket, absolute and without links among its folders

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
		return Addr{Network: "unix", Path: realPath(path), family: unix.AF_UNIX}, nil
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

// realPath is path without links among its folders: two ways to the same file are one path. A folder that is not
// there is left as it is.
func realPath(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}

// inetAddr makes both families of an empty host and of "::", where there is IPv6, and IPv4 only of 0.0.0.0.
func inetAddr(network string, ta *net.TCPAddr) Addr {
	a := Addr{Network: network, port: ta.Port}
	ip4 := ta.IP.To4()
	switch both := len(ta.IP) == 0 || ip4 == nil && ta.IP.IsUnspecified(); {
	case both && haveIPv6():
		a.family, a.sa, a.host = unix.AF_INET6, &unix.SockaddrInet6{Port: ta.Port}, "::"
	case both:
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

// Here fails if the machine does not have the address now. No port is taken.
func (a Addr) Here() error {
	if a.Network == "unix" {
		return nil
	}
	fd, err := unix.Socket(a.family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("listen %s: %w", a, os.NewSyscallError("socket", err))
	}
	defer func() { _ = unix.Close(fd) }()
	switch sa := a.sa.(type) {
	case *unix.SockaddrInet4:
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: sa.Addr})
	case *unix.SockaddrInet6:
		err = unix.Bind(fd, &unix.SockaddrInet6{Addr: sa.Addr, ZoneId: sa.ZoneId})
	}
	if err != nil {
		return fmt.Errorf("listen %s: %w", a, os.NewSyscallError("bind", err))
	}
	return nil
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

// Shared is the slot of a socket that all workers share.
const Shared = -1

// longestKey is that of a [Addr.Key] without its slot. Longer ones are digests, so that a message has room for many.
const longestKey = 56

// Key names the socket of a slot, or the Shared one, in the registry: the same address is the same key, however it is
// written. With port 0 the kernel chooses, so there the listener's name takes part.
func (a Addr) Key(name string, slot int) string {
	where := a.Path
	if a.Network != "unix" {
		where = net.JoinHostPort(a.host, strconv.Itoa(a.port))
		if a.port == 0 {
			where += "#" + name
		}
	}
	key := a.Network + "/" + where
	if len(key) > longestKey {
		sum := sha256.Sum256([]byte(where))
		key = fmt.Sprintf("%s/#%x", a.Network, sum[:16])
	}
	if slot == Shared {
		return key
	}
	return fmt.Sprintf("%s/%d", key, slot)
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
