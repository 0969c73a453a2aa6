package listen

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// Addr is a resolved address.
type Addr struct {
	network string         // tcp, udp or unix
	path    string         // of a Unix socket: absolute, and without links among its directories
	ip      netip.AddrPort // of the others; "::" is every address of both families
}

// Resolve reads an address as people write it: "host:port", ":port", "unix:/path" or "/path". transport is tcp, tls
// or udp. A relative path begins at dir.
func Resolve(address, transport, dir string) (Addr, error) {
	path, isPath := strings.CutPrefix(address, "unix:")
	switch {
	case address == "": // which the resolver takes for any port of any interface
		return Addr{}, errors.New("listen: no address")
	case !isPath && !filepath.IsAbs(path):
		return resolveIP(address, transport)
	case transport == "udp":
		return Addr{}, fmt.Errorf("listen %s: a Unix socket carries no udp", address)
	case path == "":
		return Addr{}, fmt.Errorf("listen %s: no path", address)
	case !filepath.IsAbs(path):
		path = filepath.Join(dir, path)
	}
	return Addr{network: "unix", path: realPath(path)}, nil
}

// realPath is path without links among its directories: two ways to the same file are one path.
func realPath(path string) string {
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(dir, filepath.Base(path))
	}
	return filepath.Clean(path)
}

// resolveIP makes both families of an empty host and of "::", where there is IPv6, and IPv4 only of 0.0.0.0.
func resolveIP(address, transport string) (Addr, error) {
	ta, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return Addr{}, fmt.Errorf("listen %s: %w", address, err)
	}
	if i, err := net.InterfaceByName(ta.Zone); err == nil {
		ta.Zone = strconv.Itoa(i.Index)
	}
	a := Addr{network: "tcp", ip: ta.AddrPort()}
	if transport == "udp" {
		a.network = "udp"
	}
	switch host := a.ip.Addr(); {
	case host.IsValid() && host != netip.IPv6Unspecified():
		return a.on(host.Unmap()), nil
	case haveIPv6():
		return a.on(netip.IPv6Unspecified()), nil
	}
	return a.on(netip.IPv4Unspecified()), nil
}

// on returns a with another host.
func (a Addr) on(host netip.Addr) Addr {
	a.ip = netip.AddrPortFrom(host, a.ip.Port())
	return a
}

func haveIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Bind(fd, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}) == nil
}

// AddrOf returns the address that a socket has, and the zero Addr for what nobody can listen on here.
func AddrOf(fd int) Addr {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return Addr{}
	}
	sa, _ := unix.Getsockname(fd)
	switch a := rawfd.Addr(sa, "tcp").(type) {
	case *net.TCPAddr:
		network := map[int]string{unix.SOCK_STREAM: "tcp", unix.SOCK_DGRAM: "udp"}[kind]
		return Addr{network: network, ip: a.AddrPort()}.on(a.AddrPort().Addr().Unmap())
	case *net.UnixAddr:
		if kind == unix.SOCK_STREAM {
			return Addr{network: "unix", path: a.Name}
		}
	}
	return Addr{}
}

// Local is the address that a socket has, in words.
func Local(fd int) string { return AddrOf(fd).String() }

// String is the address as a person writes it; empty for the zero Addr.
func (a Addr) String() string {
	switch a.network {
	case "":
		return ""
	case "unix":
		return "unix:" + a.path
	}
	return a.ip.String()
}

// describe is the address with the kind of its socket.
func (a Addr) describe() string {
	switch a.network {
	case "":
		return "descriptor of another kind"
	case "unix":
		return "Unix stream socket " + a.path
	}
	return fmt.Sprintf("%s socket %s", strings.ToUpper(a.network), a)
}

// sockaddr is the address for the kernel.
func (a Addr) sockaddr() unix.Sockaddr {
	host, port := a.ip.Addr(), int(a.ip.Port())
	if host.Is4() {
		return &unix.SockaddrInet4{Addr: host.As4(), Port: port}
	}
	zone, _ := strconv.ParseUint(host.Zone(), 10, 32)
	return &unix.SockaddrInet6{Addr: host.As16(), Port: port, ZoneId: uint32(zone)}
}

func (a Addr) family() int {
	switch {
	case a.network == "unix":
		return unix.AF_UNIX
	case a.ip.Addr().Is4():
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// isFree reports whether the kernel chooses the port.
func (a Addr) isFree() bool { return a.network != "unix" && a.ip.Port() == 0 }

// place says where a socket is, for the kernel. Sockets in one place are the ones of a listener, of all slots.
type place struct {
	// Group is the same for all sockets on a port, of whatever address.
	Group string `json:"group"`
	Host  string `json:"host"` // the IP address, or the path of a Unix socket
}

// place returns that of a listener with this name. Where the kernel chooses the port there is one for each name.
func (a Addr) place(name string) place {
	switch {
	case a.network == "unix":
		return place{"unix/" + a.path, a.path}
	case a.isFree():
		return place{a.network + "/#" + name, a.ip.Addr().String()}
	}
	return place{fmt.Sprintf("%s/%d", a.network, a.ip.Port()), a.ip.Addr().String()}
}

// covers reports whether a socket in place p gets what comes to q, unless there is one in a narrower place.
func (p place) covers(q place) bool {
	wide := p.Host == q.Host || p.Host == "::" || p.Host == "0.0.0.0" && !strings.Contains(q.Host, ":")
	return p.Group == q.Group && wide
}

// overlaps reports whether the same connection may come to p and to q. Sockets in two such places can listen beside
// each other if they share the port; the kernel gives a connection to the one in the narrowest place that it fits.
func (p place) overlaps(q place) bool { return p.covers(q) || q.covers(p) }

// Shared is the slot of a socket that all workers share.
const Shared = -1

// longestKey is that of an [Addr.key] without its slot. Longer ones are digests: a message has room for many.
const longestKey = 56

// key names the socket of a slot, or the Shared one, in the registry: the same address is the same key, however it is
// written. Where the kernel chooses the port the listener's name takes part.
func (a Addr) key(name string, slot int) string {
	where := a.path
	if a.network != "unix" {
		where = a.ip.String()
	}
	if a.isFree() {
		where += "#" + name
	}
	key := a.network + "/" + where
	if len(key) > longestKey {
		sum := sha256.Sum256([]byte(where))
		key = fmt.Sprintf("%s/#%x", a.network, sum[:16])
	}
	if slot == Shared {
		return key
	}
	return fmt.Sprintf("%s/%d", key, slot)
}
