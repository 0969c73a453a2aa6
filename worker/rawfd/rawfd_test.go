package rawfd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// pair is a socketpair.
func pair(t *testing.T) (a, b int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseAll(p[:]) })
	return p[0], p[1]
}

func TestReadable(t *testing.T) {
	t.Parallel()
	near, far := pair(t)
	if Readable(near) || Polled(near, unix.POLLIN) != 0 {
		t.Error("nothing has come")
	}
	if err := Send(far, []byte("x"), nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if !Readable(near) || Polled(near, unix.POLLIN) != unix.POLLIN {
			t.Error("a byte has come, and is still there after a look")
		}
	}
	if n, err := unix.Read(near, make([]byte, 9)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := unix.Shutdown(far, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if Readable(near) || Polled(near, unix.POLLIN) == 0 {
		t.Error("the end of the stream is no byte, and an event")
	}
	if err := Send(near, make([]byte, 10<<20), nil); err != nil { // what there is room for
		t.Fatal(err)
	}
	if err := Send(near, []byte("x"), nil); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("a full socket: %v", err)
	}
}

// TestOf: a duplicate of a connection has the flags that the connection had.
func TestOf(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	fd, err := Of(ln)
	if err != nil {
		t.Fatal(err)
	}
	defer CloseAll([]int{fd})
	for cmd, flag := range map[int]int{unix.F_GETFL: unix.O_NONBLOCK, unix.F_GETFD: unix.FD_CLOEXEC} {
		if flags, err := unix.FcntlInt(uintptr(fd), cmd, 0); err != nil || flags&flag == 0 {
			t.Errorf("flags %x, %v", flags, err)
		}
	}
	if !Listens(fd) {
		t.Error("it does not listen")
	}
	sa, err := unix.Getsockname(fd)
	if err != nil || Addr(sa, "tcp").String() != ln.Addr().String() {
		t.Errorf("%v, %v; want %v", sa, err, ln.Addr())
	}
	if _, err := Of("a string"); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	_ = ln.Close()
	if fd, err := Of(ln); !errors.Is(err, net.ErrClosed) || fd != -1 {
		t.Errorf("of a closed one: %d, %v", fd, err)
	}
}

func TestPeer(t *testing.T) {
	t.Parallel()
	near, _ := pair(t)
	d, err := Dup(near)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(d), "near")
	defer func() { _ = f.Close() }()
	cred, err := Peer(f)
	if err != nil || int(cred.Pid) != os.Getpid() || int(cred.Uid) != os.Getuid() {
		t.Errorf("%+v, %v", cred, err)
	}
}

func TestAddr(t *testing.T) {
	t.Parallel()
	for want, sa := range map[string]unix.Sockaddr{
		"127.0.0.2:80":  &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 2}, Port: 80},
		"[fe80::%7]:80": &unix.SockaddrInet6{Addr: [16]byte{0xfe, 0x80}, Port: 80, ZoneId: 7},
		"/run/s":        &unix.SockaddrUnix{Name: "/run/s"},
	} {
		if got := Addr(sa, "udp").String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if Addr(&unix.SockaddrNetlink{}, "udp") != nil {
		t.Error("an address of another family")
	}
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	if !Exhausted(fmt.Errorf("accept: %w", os.NewSyscallError("accept4", unix.EMFILE))) || Exhausted(unix.EAGAIN) ||
		Exhausted(nil) {
		t.Error("wrong")
	}
	if NearLimit() || NearLimit(0) || !NearLimit(1<<30) {
		t.Error("wrong")
	}
}
