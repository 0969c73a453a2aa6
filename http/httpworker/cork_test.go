package httpworker

import (
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The last response and the end of the connection come together: whoever waits for the one has the other as well.
func TestEndComesWithTheLastResponse(t *testing.T) {
	t.Parallel()
	const n = 60
	p := start(t, Settings{})
	together := 0
	for range n {
		c := dial(t, p)
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		c.send("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if err := raw.Control(func(fd uintptr) {
			ev := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
			for {
				if n, err := unix.Poll(ev, int(never/time.Millisecond)); err != unix.EINTR || n > 0 {
					break
				}
			}
			if ev[0].Revents&unix.POLLRDHUP != 0 {
				together++
			}
		}); err != nil {
			t.Fatal(err)
		}
		c.want(http.StatusOK, "/a")
		_ = c.Close()
	}
	if together < n-2 { // two segments meet now and then, too, and poll(2) may look in between
		t.Errorf("%d of %d", together, n)
	}
}

// A response with "Connection: close" whose handler took that back is sent at once.
func TestCorkIsTakenBack(t *testing.T) {
	t.Parallel()
	sock := tcpSocket(t)
	c := newTCPConn(sock, &server{})
	c.lastWord(&http.Request{Close: true, ProtoMajor: 1}, false)
	if corked(t, c) != 1 {
		t.Fatal("it is not corked")
	}
	c.uncork()
	if corked(t, c) != 0 {
		t.Error("it is corked for ever")
	}
	for name, r := range map[string]*http.Request{
		"kept":     {ProtoMajor: 1},
		"a body":   {Close: true, ProtoMajor: 1, ContentLength: -1},
		"HTTP/2":   {Close: true, ProtoMajor: 2},
		"hijacked": {Close: true, ProtoMajor: 1},
	} {
		c.hijacked = name == "hijacked"
		if c.lastWord(r, false); corked(t, c) != 0 {
			t.Errorf("%s: corked", name)
		}
	}
}

func corked(t *testing.T, c *tcpConn) (on int) {
	t.Helper()
	raw, err := c.tcp.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK) })
		if err == nil {
			err = cerr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// tcpSocket is a connection of a server.
func tcpSocket(t *testing.T) *net.TCPConn {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), nc.Close() })
	return nc.(*net.TCPConn)
}
