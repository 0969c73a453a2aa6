package sock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds what must come.
const patience = 20 * time.Second

// listening is a listening socket, and a number of Listeners on it as of so many processes.
func listening(t *testing.T, address string, n int) (*net.TCPListener, []*Listener) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip(err) // no IPv6
	}
	tcp := ln.(*net.TCPListener)
	t.Cleanup(func() { _ = tcp.Close() })
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var all []*Listener
	for range n {
		fd := -1
		if err := errors.Join(err, raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }), err); err != nil {
			t.Fatal(err)
		}
		l, err := Listen(fd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		all = append(all, l)
	}
	return tcp, all
}

func dial(t testing.TB, ln net.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// both is a connection, from both sides.
func both(t *testing.T) (*net.TCPConn, *Conn) {
	t.Helper()
	ln, all := listening(t, "127.0.0.1:0", 1)
	client := dial(t, ln)
	nc, err := all[0].Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(patience))
	return client, nc.(*Conn)
}

func option(t *testing.T, c syscall.Conn, level, name int) (value int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { value, err = unix.GetsockoptInt(int(fd), level, name) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return value
}

// Connections have the options that package net gives them.
func TestOptions(t *testing.T) {
	t.Parallel()
	_, ours := both(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	dial(t, ln)
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	for name, o := range map[string][2]int{
		"no delay": {unix.IPPROTO_TCP, unix.TCP_NODELAY}, "keep-alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		"idle": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, "interval": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		"count": {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	} {
		if got, want := option(t, ours, o[0], o[1]), option(t, nc.(syscall.Conn), o[0], o[1]); got != want {
			t.Errorf("%s: %d, net has %d", name, got, want)
		}
	}
}

// The socket is in the runtime's epoll while an Accept waits, and then for its turn only.
func TestTurns(t *testing.T) {
	t.Parallel()
	ln, all := listening(t, "127.0.0.1:0", 1)
	l := all[0]
	if l.turn == nil {
		t.Fatal("the runtime's epoll was not found")
	}
	waitFor := func(what string, want bool) {
		t.Helper()
		for begin := time.Now(); ; time.Sleep(time.Millisecond) {
			events, in := watched(t, l)
			if in == want && (!in || events&unix.EPOLLEXCLUSIVE != 0) {
				return
			}
			if time.Since(begin) > patience {
				t.Fatalf("%s: in the epoll: %v, %x", what, in, events)
			}
		}
	}
	waitFor("before", false)
	for range 3 {
		accepted := make(chan error)
		go func() {
			_, err := l.Accept()
			accepted <- err
		}()
		waitFor("in Accept", true)
		dial(t, ln)
		if err := <-accepted; err != nil {
			t.Fatal(err)
		}
		waitFor("after Accept", false)
	}
	over := make(chan error)
	go func() {
		_, err := l.Accept()
		over <- err
	}()
	waitFor("in Accept", true)
	_ = l.SetDeadline(time.Unix(1, 0))
	if err := <-over; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	waitFor("after a deadline", false)
	_ = l.SetDeadline(time.Time{})
	go func() {
		_, err := l.Accept()
		over <- err
	}()
	waitFor("in Accept", true)
	_ = l.Close()
	if err := <-over; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func watched(t *testing.T, l *Listener) (events uint32, ok bool) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", l.turn.epoll))
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if err := l.raw.Control(func(s uintptr) { fd = int(s) }); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var tfd int
		if n, _ := fmt.Sscanf(line, "tfd: %d events: %x", &tfd, &events); n == 2 && tfd == fd {
			return events, true
		}
	}
	return 0, false
}

// Of each connection one of those who wait hears, and none is forgotten, with turns and without.
func TestNoConnectionIsForgotten(t *testing.T) {
	t.Parallel()
	for _, turns := range []bool{true, false} {
		t.Run(fmt.Sprintf("turns %v", turns), func(t *testing.T) {
			t.Parallel()
			ln, all := listening(t, "127.0.0.1:0", 4)
			var served [4]atomic.Int64
			for i, l := range all {
				if !turns {
					_ = l.raw.Control(func(fd uintptr) { _ = l.turn.add(int(fd), asRuntime) })
					l.turn = nil
				}
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						served[i].Add(1)
						_, _ = c.Write([]byte("x"))
						_ = c.Close()
					}
				}()
			}
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(func() {
					for range 100 {
						c := dial(t, ln)
						if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
							t.Error(err)
							return
						}
						_ = c.Close()
					}
				})
			}
			clients.Wait()
			if sum := served[0].Load() + served[1].Load() + served[2].Load() + served[3].Load(); sum != 400 {
				t.Errorf("%d served", sum)
			}
		})
	}
}

// Errors are those of package net: net/http looks at them.
func TestErrors(t *testing.T) {
	t.Parallel()
	client, c := both(t)
	buf := make([]byte, 1)
	want := func(op string, err, target error) {
		t.Helper()
		var oe *net.OpError
		if !errors.As(err, &oe) || oe.Op != op || oe.Addr == nil || oe.Source == nil || !errors.Is(err, target) {
			t.Errorf("%s: %#v, want one with %v", op, err, target)
		}
	}
	_ = c.SetReadDeadline(time.Unix(1, 0))
	_, err := c.Read(buf)
	want("read", err, os.ErrDeadlineExceeded)
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	_, _ = client.Write([]byte("unread"))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	_, err = c.Write([]byte("x"))
	want("write", err, unix.EPIPE)
	if b, err := io.ReadAll(client); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	_, err = io.Copy(io.Discard, c)
	want("read", err, unix.ECONNRESET)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	want("close", c.Close(), net.ErrClosed)
	_, err = c.Read(buf)
	want("read", err, net.ErrClosed)
	want("set", c.SetDeadline(time.Now()), net.ErrClosed)
}

func TestEndOfFile(t *testing.T) {
	t.Parallel()
	client, c := both(t)
	_ = client.CloseWrite()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // net/http compares
		t.Error(err)
	}
}

// Addresses are right also where the listener has none of its own.
func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			ln, all := listening(t, address, 1)
			client := dial(t, ln)
			nc, err := all[0].Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = nc.Close() }()
			if nc.RemoteAddr().String() != client.LocalAddr().String() || nc.LocalAddr().String() != client.RemoteAddr().String() {
				t.Errorf("%v - %v, the client has %v - %v", nc.RemoteAddr(), nc.LocalAddr(), client.LocalAddr(), client.RemoteAddr())
			}
			if all[0].Addr().String() != ln.Addr().String() {
				t.Errorf("%v, want %v", all[0].Addr(), ln.Addr())
			}
		})
	}
}

// ReadFrom sends all of whatever it gets, once, and from where the file is.
func TestReadFrom(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than a socket's buffers hold
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(t *testing.T, path string) *os.File {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	version, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		from func(t *testing.T) io.Reader
		want []byte
	}{
		"a file":         {func(t *testing.T) io.Reader { t.Helper(); return open(t, path) }, content},
		"part of a file": {func(t *testing.T) io.Reader { t.Helper(); return io.LimitReader(open(t, path), 100) }, content[:100]},
		"nothing of it":  {func(t *testing.T) io.Reader { t.Helper(); return io.LimitReader(open(t, path), 0) }, nil},
		"from its middle": {func(t *testing.T) io.Reader {
			t.Helper()
			f := open(t, path)
			_, _ = f.Seek(-5, io.SeekEnd)
			return f
		}, content[len(content)-5:]},
		"memory":           {func(*testing.T) io.Reader { return bytes.NewReader(content) }, content},
		"of the kernel":    {func(t *testing.T) io.Reader { t.Helper(); return open(t, "/proc/version") }, version},
		"of no known size": {func(t *testing.T) io.Reader { t.Helper(); return io.LimitReader(open(t, "/proc/version"), 1<<40) }, version},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, c := both(t)
			got := make(chan []byte)
			go func() {
				b, _ := io.ReadAll(client)
				got <- b
			}()
			n, err := c.ReadFrom(tt.from(t))
			_ = c.Close()
			if b := <-got; n != int64(len(tt.want)) || err != nil || !bytes.Equal(b, tt.want) {
				t.Errorf("%d bytes, %v; %d arrived, want %d", n, err, len(b), len(tt.want))
			}
		})
	}
}

// A ReadFrom that waits for its client ends with the deadline, and with Close.
func TestReadFromEnds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		end  func(c *Conn)
		want error
	}{
		"deadline": {func(c *Conn) { _ = c.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"close":    {func(c *Conn) { _ = c.Close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, c := both(t)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			go func() {
				_, _ = io.ReadFull(client, make([]byte, 1))
				tt.end(c)
			}()
			if n, err := c.ReadFrom(f); !errors.Is(err, tt.want) || n == 32<<20 {
				t.Errorf("%d bytes, %v, want %v", n, err, tt.want)
			}
		})
	}
}

// New takes a connection as it is.
func TestNew(t *testing.T) {
	t.Parallel()
	client, c := both(t)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	again, err := New(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	_ = c.Close()
	if again.RemoteAddr().String() != client.LocalAddr().String() || again.LocalAddr().String() != client.RemoteAddr().String() {
		t.Errorf("%v - %v", again.RemoteAddr(), again.LocalAddr())
	}
	_, _ = client.Write([]byte("x"))
	if n, err := again.Read(make([]byte, 9)); n != 1 || err != nil {
		t.Error(n, err)
	}
	pipe := make([]int, 2)
	if err := unix.Pipe2(pipe, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(pipe[1]) }()
	if _, err := New(pipe[0]); !errors.Is(err, unix.ENOTSOCK) {
		t.Error(err)
	}
}
