package worker

import (
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"baton/worker/wire"
)

// limited is an Env with a listener that has room for n connections.
func limited(t *testing.T, n int) (*Director, net.Listener, net.Listener) {
	t.Helper()
	ln := shared(t, "tcp", "127.0.0.1:0")
	setup := wire.Setup{MaxConnections: n, Listeners: []wire.Listener{{Key: "0", Name: "0", Transport: "tcp"}}}
	d := NewDirector(setup, []int{dupOf(t, ln)}, nil, slog.New(slog.DiscardHandler))
	d.Go()
	l, err := d.Env().Listener("0")
	if err != nil {
		t.Fatal(err)
	}
	return d, l, ln
}

// taking tells what it accepts.
func taking(t *testing.T, l net.Listener) (<-chan net.Conn, <-chan error) {
	t.Helper()
	conns, ended := make(chan net.Conn, 10), make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			conns <- c
		}
	}()
	return conns, ended
}

func dialTCP(t *testing.T, ln net.Listener) {
	t.Helper()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
}

func receiveFrom[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s", what)
		panic("")
	}
}

func awaitHeld(t *testing.T, d *Director) {
	t.Helper()
	for begin := time.Now(); d.Env().limiter.pausedBecause() == ""; time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("the listener accepts on")
		}
	}
}

func TestNoRoom(t *testing.T) {
	t.Parallel()
	d, l, ln := limited(t, 2)
	conns, ended := taking(t, l)
	for range 4 {
		dialTCP(t, ln)
	}
	open := receiveFrom(t, conns, "connection")
	receiveFrom(t, conns, "connection")
	for range 2 { // the others wait, each for one that closes
		awaitHeld(t, d)
		if len(conns) != 0 {
			t.Fatal("one too many")
		}
		_ = open.Close()
		_ = open.Close() // which counts once
		open = receiveFrom(t, conns, "connection after another has closed")
	}
	awaitHeld(t, d)
	d.Drain(wire.Drain{Deadline: monotonic() + int64(time.Minute)})
	if err := receiveFrom(t, ended, "end of Accept"); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if why := d.Env().limiter.pausedBecause(); why != "" {
		t.Errorf("%q", why)
	}
}

// Idle connections are closed when somebody waits, and not before.
func TestNoRoomMakesRoom(t *testing.T) {
	t.Parallel()
	d, l, ln := limited(t, 1)
	var waits atomic.Bool
	var idle atomic.Value
	d.Env().OnFull(func() {
		if !waits.Load() {
			t.Error("nobody waits")
		}
		_ = idle.Load().(net.Conn).Close()
	})
	conns, _ := taking(t, l)
	dialTCP(t, ln)
	idle.Store(receiveFrom(t, conns, "connection"))
	awaitHeld(t, d)
	for range 3 {
		waits.Store(true)
		dialTCP(t, ln)
		idle.Store(receiveFrom(t, conns, "second connection"))
		waits.Store(false)
	}
}

// A listener that gets one more socket, or ends, does so without room as well.
func TestNoRoomAndMerged(t *testing.T) {
	t.Parallel()
	d, l, ln := limited(t, 1)
	conns, ended := taking(t, l)
	dialTCP(t, ln)
	open := receiveFrom(t, conns, "connection")
	awaitHeld(t, d)
	more := shared(t, "tcp", "127.0.0.1:0")
	d.env.addSocket(wire.Listener{Key: "x", Name: "0", Transport: "tcp", Additional: true}, dupOf(t, more))
	dialTCP(t, more)
	_ = open.Close()
	receiveFrom(t, conns, "connection of the other socket")
	dialTCP(t, ln)
	d.Drain(wire.Drain{Deadline: monotonic() + int64(time.Minute), Ends: []string{"0"}})
	receiveFrom(t, conns, "connection of an address that ends")
	if err := receiveFrom(t, ended, "end of Accept"); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestRoomFor(t *testing.T) {
	t.Parallel()
	if n := connLimit(7); n != 7 {
		t.Errorf("%d", n)
	}
	if n := connLimit(0); n < 1 {
		t.Errorf("%d", n)
	}
}
