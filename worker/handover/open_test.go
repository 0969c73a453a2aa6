package handover

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// A connection is opened as what it is, and nothing else holds it.
func TestOpen(t *testing.T) {
	t.Parallel()
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = ln.Close() }()
			client, err := net.Dial(network, ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			server, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			fd, err := rawfd.Of(server)
			if err != nil {
				t.Fatal(err)
			}
			_ = server.Close()
			taken := Conn{FD: fd}
			c, err := taken.Open()
			if err != nil {
				t.Fatal(err)
			}
			if c.LocalAddr().String() != server.LocalAddr().String() || c.LocalAddr().Network() != network {
				t.Errorf("%v, want %v", c.LocalAddr(), server.LocalAddr())
			}
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Error(err)
			}
			_ = c.Close()
			if b, err := io.ReadAll(client); string(b) != "hello" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// full is a process that has no descriptor left for the duplicate that Open makes, until it is told "room".
func full() int {
	var old unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &old) != nil {
		return 1
	}
	c := Conn{FD: 3}
	if _, _, err := os.Pipe(); err != nil { // the first file that waits brings the poller's descriptors
		return 1
	}
	for limit := uint64(3); ; limit++ {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: old.Max}) != nil {
			return 1
		}
		if d, err := rawfd.Dup(3); err == nil {
			_ = unix.Close(d)
			_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit - 1, Max: old.Max})
			break
		}
	}
	_, err := c.Open()
	fmt.Println("exhausted", rawfd.Exhausted(err))
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &old) != nil {
		return 1
	}
	nc, err := c.Open()
	if err != nil {
		return 1
	}
	_, err = io.WriteString(nc, "hello")
	_ = nc.Close()
	fmt.Println("opened", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// TestOpenWithoutRoom: a connection that there is no descriptor for is not lost; it can be opened later, and is then
// closed as a whole.
func TestOpenWithoutRoom(t *testing.T) {
	t.Parallel()
	c := connect(t, 1)
	child := startChild(t, "full", c.fds[0])
	nothing := newPair(t)
	if err := unix.Dup3(nothing.give, c.fds[0], unix.O_CLOEXEC); err != nil { // the child is the only one that has it
		t.Fatal(err)
	}
	child.hear(t, "exhausted true")
	child.hear(t, "opened <nil>")
	_ = c.conns[0].SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c.conns[0]); string(b) != "hello" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
