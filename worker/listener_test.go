package worker

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/wire"
)

// patience is long enough for whatever a test waits for: it ends tests that fail.
const patience = 20 * time.Second

// shared is a listening socket that the test holds as well, as a master and other workers do.
func shared(t *testing.T, network, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func dupOf(t *testing.T, ln net.Listener) int {
	t.Helper()
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	if cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) }); cerr != nil ||
		err != nil {
		t.Fatal(cerr, err)
	}
	return fd
}

// direct gives the listeners to an Env, under the keys and names "0", "1" ….
func direct(t *testing.T, lns ...net.Listener) *Director {
	t.Helper()
	setup := wire.Setup{Generation: 3, Slot: 1, Version: "v"}
	var fds []int
	for i, ln := range lns {
		name := string(rune('0' + i))
		setup.Listeners = append(setup.Listeners, wire.Listener{
			Key: name, Name: name, Address: ln.Addr().String(),
			Transport: "tcp",
		})
		fds = append(fds, dupOf(t, ln))
	}
	return NewDirector(setup, fds, []byte("payload"), slog.New(slog.DiscardHandler))
}

func listenerOf(t *testing.T, d *Director, name string) net.Listener {
	t.Helper()
	ln, err := d.Env().Listener(name)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// accepting calls Accept until it fails, and tells both.
func accepting(ln net.Listener) (conns chan net.Conn, failed chan error) {
	conns, failed = make(chan net.Conn, 100), make(chan error, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				failed <- err
				return
			}
			conns <- c
		}
	}()
	return conns, failed
}

func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(addr.Network(), addr.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func wantClosed(t *testing.T, failed <-chan error) {
	t.Helper()
	select {
	case err := <-failed:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returned %v, want net.ErrClosed", err)
		}
	case <-time.After(patience):
		t.Fatal("Accept did not return")
	}
}

// wantServed takes a connection and sees that it is c.
func wantServed(t *testing.T, conns <-chan net.Conn, c net.Conn) {
	t.Helper()
	select {
	case got := <-conns:
		defer func() { _ = got.Close() }()
		if got.RemoteAddr().String() != c.LocalAddr().String() {
			t.Errorf("accepted %v, want %v", got.RemoteAddr(), c.LocalAddr())
		}
	case <-time.After(patience):
		t.Fatal("a connection was not accepted")
	}
}

var (
	noEnds  = wire.Drain{Deadline: 1 << 62}
	endsAll = wire.Drain{Deadline: 1 << 62, Ends: []string{"0"}}
	stops   = wire.Drain{Deadline: 1 << 62, Stop: true}
)

func TestAcceptWaitsForGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := shared(t, "tcp", "127.0.0.1:0")
		d := direct(t, ln)
		c := dial(t, ln.Addr())
		conns, failed := accepting(listenerOf(t, d, "0"))
		synctest.Wait() // Accept waits for a channel, and not for the network
		if len(conns) != 0 {
			t.Fatal("accepted before GO")
		}
		d.Go()
		wantServed(t, conns, c)
		d.Drain(noEnds)
		wantClosed(t, failed)
	})
}

func TestDrainEndsAccept(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]wire.Drain{
		"others serve on":  noEnds,
		"the address ends": endsAll,
		"all stop":         stops,
	} {
		for _, granted := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ln := shared(t, "tcp", "127.0.0.1:0")
				d := direct(t, ln)
				if granted {
					d.Go()
				}
				_, failed := accepting(listenerOf(t, d, "0"))
				d.Drain(m)
				wantClosed(t, failed)
				if err := d.Context().Err(); err == nil {
					t.Error("the context has not ended")
				}
			})
		}
	}
}

// The socket itself is never closed or shut down: other processes serve on it.
func TestDrainLeavesTheSocketToOthers(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, ln)
	d.Go()
	conns, failed := accepting(listenerOf(t, d, "0"))
	first := dial(t, ln.Addr())
	wantServed(t, conns, first)
	d.Drain(noEnds)
	wantClosed(t, failed)

	others, _ := accepting(ln)
	wantServed(t, others, dial(t, ln.Addr()))
	if len(conns) != 0 {
		t.Error("a draining worker accepted")
	}
}

func TestEndingListenerAcceptsItsQueueFirst(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]wire.Drain{"its address ends": endsAll, "all stop": stops} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(name+" "+network, func(t *testing.T) {
				t.Parallel()
				address := "127.0.0.1:0"
				if network == "unix" {
					address = filepath.Join(t.TempDir(), "s")
				}
				ln := shared(t, network, address)
				d := direct(t, ln)
				d.Go()
				l := listenerOf(t, d, "0")
				clients := []net.Conn{dial(t, ln.Addr()), dial(t, ln.Addr()), dial(t, ln.Addr())}
				d.Drain(m)
				conns, failed := accepting(l)
				wantClosed(t, failed)
				if len(conns) != len(clients) {
					t.Fatalf("%d of %d queued connections were accepted", len(conns), len(clients))
				}
				for _, c := range clients {
					s := <-conns
					if _, err := s.Write([]byte("hello")); err != nil {
						t.Error(err)
					}
					_ = s.Close()
					if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
						t.Errorf("%q, %v", b, err)
					}
				}
			})
		}
	}
}

func TestOnlyNamedListenersEnd(t *testing.T) {
	t.Parallel()
	ending, staying := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, ending, staying)
	d.Go()
	last, first := dial(t, ending.Addr()), dial(t, staying.Addr())
	e, s := listenerOf(t, d, "0"), listenerOf(t, d, "1")
	d.Drain(endsAll)
	conns, failed := accepting(e)
	wantClosed(t, failed)
	wantServed(t, conns, last)
	conns, failed = accepting(s)
	wantClosed(t, failed)
	if len(conns) != 0 {
		t.Error("a connection was taken from those who serve on")
	}
	others, _ := accepting(staying)
	wantServed(t, others, first)
}

func TestCloseOfListener(t *testing.T) {
	t.Parallel()
	for _, granted := range []bool{false, true} {
		ln := shared(t, "tcp", "127.0.0.1:0")
		d := direct(t, ln)
		if granted {
			d.Go()
		}
		l := listenerOf(t, d, "0")
		if l.Addr().String() != ln.Addr().String() {
			t.Errorf("address %v, want %v", l.Addr(), ln.Addr())
		}
		_, failed := accepting(l)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		wantClosed(t, failed)
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		d.Drain(stops)
	}
}

func TestUnixPathOutlivesTheListener(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	ln := shared(t, "unix", path)
	d := direct(t, ln)
	d.Go()
	l := listenerOf(t, d, "0")
	conns, failed := accepting(l)
	c := dial(t, ln.Addr())
	select {
	case s := <-conns:
		_ = s.Close()
	case <-time.After(patience):
		t.Fatal("not accepted")
	}
	_ = c.Close()
	d.Drain(noEnds)
	wantClosed(t, failed)
	dial(t, ln.Addr())
}

func TestListenerByNameAndAddress(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, ln)
	if a, b := listenerOf(t, d, "0"), listenerOf(t, d, ln.Addr().String()); a != b {
		t.Error("two listeners of one socket")
	}
	if l, err := d.Env().Listener("other"); err == nil {
		t.Errorf("%v has no such name", l)
	}
	d.Env().sockets[0].Transport = "udp"
	if l, err := d.Env().Listener("0"); err == nil {
		t.Errorf("%v of a datagram socket", l)
	}
	d.Drain(stops)
}

// A worker that is told to stop while it starts may ask for its listeners after that.
func TestListenerAfterTheDrain(t *testing.T) {
	t.Parallel()
	for _, granted := range []bool{false, true} {
		d := direct(t, shared(t, "tcp", "127.0.0.1:0"))
		if granted {
			d.Go()
		}
		d.Drain(stops)
		l := listenerOf(t, d, "0")
		_, failed := accepting(l)
		wantClosed(t, failed)
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

// A connection that comes just as a worker leaves may have woken this worker, and nobody else. It is served all the
// same.
func TestLeavingForgetsNoConnection(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	stays := direct(t, ln)
	var all []*Director
	for range 50 {
		all = append(all, direct(t, ln))
	}
	_ = ln.Close() // it would be woken as well, and all with it
	stays.Go()
	conns, _ := accepting(listenerOf(t, stays, "0"))
	for _, leaves := range all {
		leaves.Go()
		others, failed := accepting(listenerOf(t, leaves, "0"))
		wantServed(t, merge(conns, others), dial(t, ln.Addr())) // both are in line, or will be
		// or all of the process's listeners look, whoever is woken
		time.Sleep(time.Millisecond)
		c := connectAnd(t, ln.Addr().(*net.TCPAddr).Port, func() { leaves.Drain(noEnds) })
		wantServed(t, merge(conns, others), c)
		wantClosed(t, failed)
	}
	stays.Drain(noEnds)
}

// connectAnd connects, and calls then at once: nothing in this process has noticed the connection yet.
func connectAnd(t *testing.T, port int, then func()) net.Conn {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
		then()
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "client")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// merge passes on what comes by either.
func merge(a, b <-chan net.Conn) <-chan net.Conn {
	one := make(chan net.Conn, 1)
	go func() {
		select {
		case c := <-a:
			one <- c
		case c := <-b:
			one <- c
		}
	}()
	return one
}
