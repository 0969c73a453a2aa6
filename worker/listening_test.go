package worker

import (
	"log/slog"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/wire"
)

// bound is a socket that has an address and does not listen, and where it will.
func bound(t *testing.T) (fd int, addr net.Addr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return fd, localAddr(fd)
}

// deaf gives an Env the listener "0", which does not listen, and "1", which does.
func deaf(t *testing.T) (d *Director, fd int, addr net.Addr, good net.Listener) {
	t.Helper()
	fd, addr = bound(t)
	ours, err := rawfd.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	good = shared(t, "tcp", "127.0.0.1:0")
	setup := wire.Setup{Listeners: []wire.Listener{
		{Key: "0", Name: "0", Address: addr.String(), Transport: "tcp"},
		{Key: "1", Name: "1", Address: good.Addr().String(), Transport: "tcp"},
	}}
	return NewDirector(setup, []int{ours, dupOf(t, good)}, nil, slog.New(slog.DiscardHandler)), fd, addr, good
}

// TestSocketThatDoesNotListen: accept(2) fails there. The other listener is served, and this one as soon as it listens.
func TestSocketThatDoesNotListen(t *testing.T) {
	t.Parallel()
	d, fd, addr, good := deaf(t)
	conns, failed := accepting(listenerOf(t, d, "0"))
	others, _ := accepting(listenerOf(t, d, "1"))
	d.Go()
	wantServed(t, others, dial(t, good.Addr()))
	d.env.lookAgain() // for another one's sake
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
	if err := unix.Listen(fd, 10); err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	d.env.lookAgain()
	wantServed(t, conns, c)
	d.Drain(noEnds)
	wantClosed(t, failed)
}

// TestDrainOfSocketThatDoesNotListen: whether the address ends or not, nothing can be queued there.
func TestDrainOfSocketThatDoesNotListen(t *testing.T) {
	t.Parallel()
	for name, drain := range map[string]wire.Drain{"goes on": noEnds, "ends": endsAll, "stop": stops} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _, _, _ := deaf(t)
			_, failed := accepting(listenerOf(t, d, "0"))
			d.Go()
			d.Drain(drain)
			wantClosed(t, failed)
		})
	}
}

// TestSocketIsAddedToOneThatDoesNotListen: Accept, which waits for the first one, returns what comes to the other.
func TestSocketIsAddedToOneThatDoesNotListen(t *testing.T) {
	t.Parallel()
	d, fd, addr, _ := deaf(t)
	conns, failed := accepting(listenerOf(t, d, "0"))
	d.Go()
	extra := shared(t, "tcp", "127.0.0.1:0")
	extend(t, d, extra)
	wantServed(t, conns, dial(t, extra.Addr()))
	if err := unix.Listen(fd, 10); err != nil {
		t.Fatal(err)
	}
	d.env.lookAgain()
	wantServed(t, conns, dial(t, addr))
	d.Drain(noEnds)
	wantClosed(t, failed)
}

// TestSocketThatListensNoMore: somebody who holds it has shut it down. That is no failure of Accept.
func TestSocketThatListensNoMore(t *testing.T) {
	t.Parallel()
	d, fd, _, _ := deaf(t)
	if err := unix.Listen(fd, 10); err != nil {
		t.Fatal(err)
	}
	conns, failed := accepting(listenerOf(t, d, "0"))
	d.Go()
	for range 2 { // each time on another port: the kernel chose the first one
		wantServed(t, conns, dial(t, localAddr(fd)))
		if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, 10); err != nil {
			t.Fatal(err)
		}
		d.env.lookAgain()
	}
	wantServed(t, conns, dial(t, localAddr(fd)))
	if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	d.Drain(noEnds)
	wantClosed(t, failed)
}

// TestSocketGoes: what was given as one more socket is taken away, by its key, and the listener goes on.
func TestSocketGoes(t *testing.T) {
	t.Parallel()
	for name, asked := range map[string]bool{"served": true, "not asked for": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, extra := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
			d := direct(t, first)
			d.Go()
			extend(t, d, extra)
			extend(t, d, extra) // that it has already
			if n := len(d.env.sockets[0].extra); n != 1 {
				t.Errorf("%d extra sockets, want 1", n)
			}
			var l net.Listener
			if asked {
				l = listenerOf(t, d, "0")
				conns, failed := accepting(l)
				wantServed(t, conns, dial(t, extra.Addr()))
				d.env.removeSocket("x")
				wantServed(t, conns, dial(t, first.Addr()))
				d.Drain(noEnds)
				wantClosed(t, failed)
			} else {
				d.env.removeSocket("x")
				d.Drain(noEnds)
			}
			if n := len(d.env.sockets[0].extra); n != 0 {
				t.Errorf("%d extra sockets, want none", n)
			}
			_ = extra.Close()
			if c, err := net.Dial("tcp", extra.Addr().String()); err == nil {
				_ = c.Close()
				t.Error("the process holds the socket still")
			}
		})
	}
}

// TestSetupInSeveralMessages: as for more listeners than one message can carry.
func TestSetupInSeveralMessages(t *testing.T) {
	t.Parallel()
	c := start(t, "serves")
	c.edit = func(s *wire.Setup) { s.More = true }
	c.setUp()
	first, second := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
	c.post(wire.Sockets{More: true, Paths: []wire.Path{{Path: "/nowhere"}}})
	for i, ln := range []net.Listener{second, first} {
		name := string(rune('1' - i))
		l := wire.Listener{Key: name, Name: name, Address: ln.Addr().String(), Transport: "tcp"}
		c.post(wire.Sockets{Listeners: []wire.Listener{l}, More: i == 0}, dupOf(t, ln))
	}
	c.says(&wire.Ready{})
	c.post(wire.Go{})
	conn := dial(t, first.Addr())
	b := make([]byte, 5)
	if _, err := conn.Read(b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	c.post(wire.Drain{Deadline: 1 << 62})
	c.says(&wire.Bye{})
	c.exits(exitOK)
}
