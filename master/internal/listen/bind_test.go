package listen

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// open makes a socket of its own for an address.
func open(a Addr) (fd int, err error) {
	if a.network == "unix" {
		return Unix(a.path, 0o600)
	}
	if fd, err = newSocket(a); err != nil {
		return -1, err
	}
	if err := bind(fd, a); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// boundTo is a socket that the test's end closes.
func boundTo(t *testing.T, a Addr) int {
	t.Helper()
	fd, err := open(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func listeningAt(t *testing.T, a Addr) int {
	t.Helper()
	fd := boundTo(t, a)
	if err := listen(fd); err != nil {
		t.Fatal(err)
	}
	return fd
}

// knock connects to fd's own address.
func knock(fd int) error {
	network, address := "tcp", Local(fd)
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	c, err := net.Dial(network, address)
	if err == nil {
		_ = c.Close()
	}
	return err
}

func TestBindDoesNotListen(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			if !haveIPv6() && strings.HasPrefix(address, "[") {
				t.Skip("no IPv6")
			}
			fd := boundTo(t, resolve(t, address, "tcp"))
			if err := knock(fd); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("before Listen: %v", err)
			}
			if err := listen(fd); err != nil {
				t.Fatal(err)
			}
			if err := knock(fd); err != nil {
				t.Error(err)
			}
			if err := listen(fd); err != nil {
				t.Error("once more:", err)
			}
		})
	}
}

func TestSocketFlags(t *testing.T) {
	t.Parallel()
	fd := boundTo(t, resolve(t, "127.0.0.1:0", "tcp"))
	if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || f&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %x, %v", f, err)
	}
	if f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || f&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %x, %v", f, err)
	}
	if p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || p != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, %v", p, err)
	}
}

func TestWildcardIsBothFamilies(t *testing.T) {
	t.Parallel()
	fd := listeningAt(t, resolve(t, ":0", "tcp"))
	_, port, err := net.SplitHostPort(Local(fd))
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"127.0.0.1"}
	if haveIPv6() {
		hosts = append(hosts, "::1")
	}
	for _, h := range hosts {
		c, err := net.Dial("tcp", net.JoinHostPort(h, port))
		if err != nil {
			t.Error(err)
			continue
		}
		_ = c.Close()
	}
}

func TestTakenPortIsFoundByBind(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1:", "[::1]:"} {
		if host != "127.0.0.1:" && !haveIPv6() {
			continue
		}
		ln, err := net.Listen("tcp", host+"0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = ln.Close() }()
		fd, err := open(resolve(t, ln.Addr().String(), "tcp"))
		if !errors.Is(err, syscall.EADDRINUSE) || fd != -1 || !strings.Contains(err.Error(), ln.Addr().String()) {
			t.Errorf("%d, %v", fd, err)
		}
	}
}

func TestUDP(t *testing.T) {
	t.Parallel()
	fd := boundTo(t, resolve(t, "127.0.0.1:0", "udp"))
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_DGRAM {
		t.Errorf("type %d, %v", kind, err)
	}
	if other, err := open(resolve(t, Local(fd), "udp")); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%d, %v", other, err)
	}
}

func TestListenRefuses(t *testing.T) {
	t.Parallel()
	fd := boundTo(t, resolve(t, "127.0.0.1:0", "udp"))
	if err := listen(fd); err == nil || !strings.Contains(err.Error(), Local(fd)) {
		t.Error(err)
	}
	if Local(-1) != "" {
		t.Error("an address of nothing")
	}
}
