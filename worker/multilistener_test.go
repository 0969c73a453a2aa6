package worker

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/wire"
)

// extend gives the Env one more socket for its first listener, under the key "x".
func extend(t *testing.T, d *Director, ln net.Listener) {
	t.Helper()
	d.env.addSocket(wire.Listener{Key: "x", Name: "0", Address: ln.Addr().String(), Transport: "tcp", Additional: true},
		dupOf(t, ln))
}

func endsKeys(keys ...string) wire.Drain { return wire.Drain{Deadline: 1 << 62, Ends: keys} }

func TestMergedAcceptsFromBoth(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]func(d *Director, add func()) net.Listener{
		"before anybody asks": func(d *Director, add func()) net.Listener {
			add()
			d.Go()
			return listenerOf(t, d, "0")
		},
		"before GO": func(d *Director, add func()) net.Listener {
			l := listenerOf(t, d, "0")
			add()
			d.Go()
			return l
		},
		"after GO": func(d *Director, add func()) net.Listener {
			d.Go()
			l := listenerOf(t, d, "0")
			add()
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, extra := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
			d := direct(t, first)
			l := order(d, func() { extend(t, d, extra) })
			conns, failed := accepting(l)
			for range 10 {
				for _, ln := range []net.Listener{first, extra} {
					wantServed(t, conns, dial(t, ln.Addr()))
				}
			}
			d.Drain(noEnds)
			wantClosed(t, failed)
		})
	}
}

// A socket may come while Accept waits, or while it is about to, or has just returned; whoever connects to the new one,
// or to the old one, is accepted without anybody else having to connect.
func TestSocketComesWhileAcceptWaits(t *testing.T) {
	t.Parallel()
	rounds := 200
	if testing.Short() {
		rounds = 50
	}
	for i := range rounds {
		first, extra := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
		d := direct(t, first)
		d.Go()
		conns, failed := accepting(listenerOf(t, d, "0"))
		if i%2 == 0 { // so that Accept returns, and is called again, in this very moment
			busy := dial(t, first.Addr())
			extend(t, d, extra)
			wantServed(t, conns, busy)
		} else {
			extend(t, d, extra)
		}
		to := []net.Listener{first, extra}
		if i%3 == 0 {
			to[0], to[1] = to[1], to[0]
		}
		for _, ln := range to {
			wantServed(t, conns, dial(t, ln.Addr()))
		}
		d.Drain(noEnds)
		wantClosed(t, failed)
		_, _ = first.Close(), extra.Close()
		if t.Failed() {
			t.Fatal("round ", i)
		}
	}
}

// Several goroutines may accept; all of them are to learn of the new socket.
func TestSocketComesForManyAcceptors(t *testing.T) {
	t.Parallel()
	first, extra := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, first)
	d.Go()
	l := listenerOf(t, d, "0")
	const n = 4
	conns, ended := make(chan net.Conn, n), make(chan error, n)
	all := make(chan struct{})
	for range n {
		go func() {
			c, err := l.Accept()
			conns <- c
			<-all
			if err == nil {
				_, err = l.Accept()
			}
			ended <- err
		}()
	}
	extend(t, d, extra)
	for range n { // each of them gets one, though nobody connects to the first
		dial(t, extra.Addr())
	}
	for range n {
		select {
		case c := <-conns:
			_ = c.Close()
		case <-time.After(patience):
			t.Fatal("a connection was not accepted")
		}
	}
	close(all)
	d.Drain(noEnds)
	for range n {
		wantClosed(t, ended)
	}
}

func TestOneOfTwoSocketsEnds(t *testing.T) {
	t.Parallel()
	for ending, other := range map[string]int{"0": 1, "x": 0} {
		t.Run(ending, func(t *testing.T) {
			t.Parallel()
			lns := []net.Listener{shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")}
			d := direct(t, lns[0])
			d.Go()
			l := listenerOf(t, d, "0")
			extend(t, d, lns[1])
			conns, failed := accepting(l)
			for _, ln := range lns {
				wantServed(t, conns, dial(t, ln.Addr()))
			}
			d.Drain(endsKeys(ending))
			late := dial(t, lns[1-other].Addr()) // within the grace
			wantServed(t, conns, late)
			wantClosed(t, failed)
			stays := dial(t, lns[other].Addr())
			others, _ := accepting(lns[other])
			wantServed(t, others, stays)
			if len(conns) != 0 {
				t.Error("a connection was taken from those who serve on")
			}
		})
	}
}

// What arrives during the grace is accepted; Accept ends when it is over, and not before.
func TestEndingListenerHasGrace(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, ln)
	d.Go()
	conns, failed := accepting(listenerOf(t, d, "0"))
	wantServed(t, conns, dial(t, ln.Addr()))
	begin := time.Now()
	d.Drain(endsAll)
	var last net.Conn
	for time.Since(begin) < endGrace/2 {
		c := dial(t, ln.Addr())
		if time.Since(begin) > endGrace/4*3 {
			t.Skip("the machine is too busy to connect within the grace")
		}
		if last != nil {
			wantServed(t, conns, last)
			_ = last.Close()
		}
		last = c
	}
	wantClosed(t, failed)
	if took := time.Since(begin); took < endGrace {
		t.Errorf("closed after %v, want %v", took, endGrace)
	}
	wantServed(t, conns, last)
}

// A whole program that stops waits for nobody.
func TestStopHasNoGrace(t *testing.T) {
	t.Parallel()
	took := endGrace
	for range 10 { // a busy machine may be late, but not each time
		ln := shared(t, "tcp", "127.0.0.1:0")
		d := direct(t, ln)
		d.Go()
		_, failed := accepting(listenerOf(t, d, "0"))
		begin := time.Now()
		d.Drain(stops)
		wantClosed(t, failed)
		if took = time.Since(begin); took < endGrace {
			return
		}
	}
	t.Errorf("closed after %v", took)
}

func TestCloseOfMerged(t *testing.T) {
	t.Parallel()
	first, extra := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, first)
	d.Go()
	l := listenerOf(t, d, "0").(*multiListener)
	extend(t, d, extra)
	conns, failed := accepting(l)
	for _, ln := range []net.Listener{first, extra} {
		wantServed(t, conns, dial(t, ln.Addr()))
	}
	if l.Addr().String() != first.Addr().String() {
		t.Errorf("address %v", l.Addr())
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wantClosed(t, failed)
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	for _, ln := range []net.Listener{first, extra} { // others serve on
		others, _ := accepting(ln)
		wantServed(t, others, dial(t, ln.Addr()))
	}
	d.Drain(noEnds)
}

// What was accepted and nobody took is closed with the listener, so that its client learns of it.
func TestCloseOfMultiListenerClosesWhatNobodyTook(t *testing.T) {
	t.Parallel()
	first, extra := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, first)
	d.Go()
	l := listenerOf(t, d, "0")
	extend(t, d, extra)
	got := make(chan net.Conn)
	go func() {
		c, _ := l.Accept()
		got <- c
	}()
	await(t, func() bool { return bothAccept(l.(*multiListener)) })
	clients := []net.Conn{dial(t, first.Addr()), dial(t, extra.Addr())}
	taken := receiveFrom(t, got, "connection")
	await(t, func() bool { return !queued(first) && !queued(extra) })
	_ = l.Close()
	for _, c := range clients {
		if c.LocalAddr().String() == taken.RemoteAddr().String() {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(patience))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("read: %v, want the end", err)
		}
	}
	d.Drain(noEnds)
}

// await waits until something is so.
func await(t *testing.T, is func() bool) {
	t.Helper()
	for begin := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("it does not happen")
		}
	}
}

// bothAccept reports whether there are two sockets, and somebody waits in the kernel for each.
func bothAccept(m *multiListener) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, l := range m.sockets {
		l.mu.Lock()
		n += l.waiting
		l.mu.Unlock()
	}
	return n == 2
}

// queued reports whether a connection waits in a socket.
func queued(ln net.Listener) (is bool) {
	_ = rawfd.Control(ln, func(fd int) error {
		is = rawfd.Polled(fd, unix.POLLIN) != 0
		return nil
	})
	return is
}

// What nobody asks for stays in the kernel, where other workers may take it.
func TestNothingIsAcceptedAhead(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, ln)
	d.Go()
	l := listenerOf(t, d, "0").(*multiListener)
	for range 20 {
		dial(t, ln.Addr())
		dial(t, ln.Addr())
		for range 2 {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
		}
	}
	dial(t, ln.Addr())
	l.stuck()
	if !l.stuck() || !queued(ln) || d.env.Counters.Conns.Load() != 0 {
		t.Error("a connection was accepted that nobody has asked for")
	}
	d.Drain(noEnds)
}

// brittle is a listener whose next Accepts fail.
type brittle struct {
	acceptor
	errs chan error
}

func (b brittle) Accept() (net.Conn, error) {
	select {
	case err := <-b.errs:
		return nil, err
	default:
		return b.acceptor.Accept()
	}
}

func TestMergedPassesErrorsOn(t *testing.T) {
	t.Parallel()
	interrupted := &net.OpError{Op: "accept", Err: unix.EINTR}
	for name, tt := range map[string]struct {
		err  error
		goes bool // the socket is accepted on afterwards
	}{"temporary": {interrupted, true}, "for good": {&net.OpError{Op: "accept", Err: unix.EBADF}, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first, extra := shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0")
			d := direct(t, first)
			d.Go()
			l := listenerOf(t, d, "0").(*multiListener)
			errs := make(chan error, 3)
			for range cap(errs) {
				errs <- tt.err
			}
			x := newListener(d.env, dupOf(t, extra), nil)
			if _, err := x.open(); err != nil {
				t.Fatal(err)
			}
			x.ln = brittle{x.ln, errs}
			l.add(x)
			for i := range map[bool]int{true: cap(errs), false: 1}[tt.goes] {
				if c, err := l.Accept(); !errors.Is(err, tt.err) {
					t.Errorf("Accept %d: %v, %v", i, c, err)
				}
			}
			conns, failed := accepting(l)
			to := []net.Listener{first}
			if tt.goes {
				to = append(to, extra)
			}
			for _, ln := range to {
				wantServed(t, conns, dial(t, ln.Addr()))
			}
			_ = x.Close()
			d.Drain(noEnds)
			wantClosed(t, failed)
		})
	}
}

// At a drain, whatever was accepted comes out of Accept, and the rest stays in the sockets' queues for others: of all
// the connections that were made none is lost.
func TestMergedDrainLosesNothing(t *testing.T) {
	t.Parallel()
	rounds := 24
	if testing.Short() {
		rounds = 10
	}
	for i := range rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) { drainMerged(t, i) })
		if t.Failed() {
			return
		}
	}
}

func drainMerged(t *testing.T, round int) {
	lns := []net.Listener{
		shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0"), shared(t, "tcp", "127.0.0.1:0"),
	}
	d := direct(t, lns[0])
	d.Go()
	l := listenerOf(t, d, "0")
	var answered, made atomic.Int64
	serve := func(c net.Conn) {
		_, _ = c.Write([]byte("x"))
		_ = c.Close()
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			for !closed(stop) {
				c, err := net.Dial("tcp", lns[i%len(lns)].Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				made.Add(1)
				_ = c.SetReadDeadline(time.Now().Add(patience))
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Errorf("a connection was lost: %v", err)
				} else {
					answered.Add(1)
				}
				_ = c.Close()
			}
		})
	}
	extend(t, d, lns[1])
	if round%3 != 0 { // else the drain comes in this very moment
		for begin := time.Now(); answered.Load() < 20 && time.Since(begin) < patience; {
			time.Sleep(time.Millisecond)
			if round%3 == 1 {
				break
			}
		}
	}
	extend(t, d, lns[2])
	m := noEnds
	if round%2 == 1 {
		m = endsKeys("0")
	}
	d.Drain(m)
	<-drained
	for _, ln := range lns {
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				serve(c)
			}
		}()
	}
	for begin := answered.Load(); answered.Load() < begin+50 && !t.Failed(); {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	clients.Wait()
	if answered.Load() != made.Load() {
		t.Errorf("%d of %d were answered", answered.Load(), made.Load())
	}
}
