package sock

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// patience bounds what must come.
const patience = 20 * time.Second

// listening is a listening socket, and a Listener on it for each of these Balances, as of so many processes.
func listening(t *testing.T, network, address string, balances ...*Balance) (net.Listener, []*Listener) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	var all []*Listener
	for _, balance := range balances {
		fd, err := rawfd.Of(ln)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Listen(fd, balance)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		all = append(all, l)
	}
	return ln, all
}

func dial(t testing.TB, ln net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// The socket is in the runtime's epoll while an Accept waits, and then for its turn only.
func TestTurns(t *testing.T) {
	t.Parallel()
	ln, all := listening(t, "tcp", "127.0.0.1:0", nil)
	l := all[0]
	if l.exclusive == nil {
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
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", l.exclusive.epoll))
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
			ln, all := listening(t, "tcp", "127.0.0.1:0", make([]*Balance, 4)...)
			var served [4]atomic.Int64
			for i, l := range all {
				if !turns {
					_ = l.raw.Control(func(fd uintptr) { _ = l.exclusive.add(int(fd), asRuntime) })
					l.exclusive = nil
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

// both are the networks, with an address for a test.
func both(t *testing.T, f func(t *testing.T, network, address string)) {
	t.Helper()
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(t.TempDir(), "s")} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			f(t, network, address)
		})
	}
}

// What is accepted is a connection of package net, and closing the Listener leaves the path of a Unix socket.
func TestConnectionsAreNets(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, network, address string) {
		ln, all := listening(t, network, address, nil)
		for _, accept := range []func() (net.Conn, error){all[0].Accept, all[0].TryAccept} {
			dial(t, ln)
			c, err := accept()
			if err != nil {
				t.Fatal(err)
			}
			_, tcp := c.(*net.TCPConn)
			_, local := c.(*net.UnixConn)
			if !tcp && !local {
				t.Errorf("%T", c)
			}
			_ = c.Close()
		}
		_ = all[0].Close()
		dial(t, ln)
	})
}

// TryAccept takes what waits, and does not wait itself.
func TestTryAccept(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, network, address string) {
		ln, all := listening(t, network, address, nil)
		for range 3 {
			dial(t, ln)
		}
		_ = all[0].SetDeadline(time.Unix(1, 0)) // as of an Accept that was to end
		for range 3 {
			c, err := all[0].TryAccept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
		if c, err := all[0].TryAccept(); !errors.Is(err, unix.EAGAIN) {
			t.Error(c, err)
		}
		_ = all[0].Close()
		if c, err := all[0].TryAccept(); err == nil {
			t.Error(c)
		}
	})
}
