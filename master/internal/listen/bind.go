package listen

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// newSocket makes a socket for an address, which bind takes.
func newSocket(a Addr) (fd int, err error) {
	kind := unix.SOCK_STREAM
	if a.network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	// Plain TCP, not MPTCP: only that takes SO_ATTACH_REUSEPORT_CBPF.
	fd, err = unix.Socket(a.family(), kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("listen %s: socket: %w", a, err)
	}
	return fd, nil
}

// bind takes an address, but does not listen. That somebody else has it is found here all the same. After an error the
// socket can try again. The happy path, for TCP: setsockopt SO_REUSEADDR, bind.
//
// A Unix socket listens at once: there is nobody whose share it could take, and one that does not listen looks as if
// its process had died.
func bind(fd int, a Addr) error {
	var err error
	if a.network == "unix" {
		err = bindUnix(fd, a.path, 0o666)
	} else {
		err = bindIP(fd, a)
	}
	if err != nil {
		return fmt.Errorf("listen %s: %w", a, err)
	}
	return nil
}

func bindIP(fd int, a Addr) error {
	var reuse, only6 error
	if a.network == "tcp" {
		reuse = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if a.family() == unix.AF_INET6 {
		only := 1
		if a.ip.Addr().IsUnspecified() {
			only = 0
		}
		only6 = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	if err := errors.Join(reuse, only6); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, a.sockaddr()))
}

// shareAddress lets other sockets of this user that are set so too bind the address of this one, or one that overlaps
// with it.
func shareAddress(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
}

// backlog is more than any system's limit, and so becomes that.
const backlog = 1 << 30

// listen makes a bound socket listen.
func listen(fd int) error {
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen %s: %w", Local(fd), err)
	}
	return nil
}

// isBound reports whether a socket has an address: one of TCP may have none yet.
func isBound(fd int) bool { return !AddrOf(fd).isFree() }

// acceptQueue is how many connections wait in a listening socket.
func acceptQueue(fd int) int {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0
	}
	return int(info.Unacked)
}
