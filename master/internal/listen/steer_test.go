package listen

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// group is n listening sockets on one port, in the order in which they have listened.
func group(t *testing.T, n int) []int {
	t.Helper()
	a := resolve(t, "127.0.0.1:0", "tcp")
	var fds []int
	for range n {
		fds = append(fds, joining(t, a))
		a = AddrOf(fds[0])
	}
	return fds
}

// beside makes a socket that listens beside others on its address.
func beside(a Addr) (fd int, err error) {
	if fd, err = newSocket(a); err == nil {
		err = cmp.Or(shareAddress(fd), bind(fd, a), listen(fd))
	}
	return fd, err
}

func joining(t *testing.T, a Addr) int {
	t.Helper()
	fd, err := beside(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// first makes new connections go to the first n sockets.
func first(fd, n int) error {
	places := make([]int, n)
	for i := range places {
		places[i] = i
	}
	return steerTo(fd, places)
}

// connect makes connections that stay open.
func connect(t *testing.T, fd, n int) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", Local(fd))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// queued takes what waits in a socket's queue.
func queued(t *testing.T, fd int) (n int) {
	t.Helper()
	for ; ; n++ {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(c)
	}
}

func TestSteer(t *testing.T) {
	t.Parallel()
	const n = 200
	fds := group(t, 3)
	steer := func(by, to int) {
		t.Helper()
		if err := first(by, to); err != nil {
			t.Fatal(err)
		}
	}
	counts := func() (c [3]int) {
		for i, fd := range fds {
			c[i] = queued(t, fd)
		}
		return c
	}
	connect(t, fds[0], n)
	steer(fds[0], 2)
	if c := counts(); c[0]+c[1]+c[2] != n || c[2] == 0 {
		t.Errorf("before: %v; what was queued stays where it is", c)
	}
	for _, by := range []int{fds[0], fds[2]} { // whoever says it
		steer(by, 3)
		steer(by, 2)
		connect(t, fds[0], n)
		if c := counts(); c[0]+c[1] != n || c[0] == 0 || c[1] == 0 {
			t.Errorf("to two: %v", c)
		}
	}
	steer(fds[1], 3)
	connect(t, fds[0], n)
	if c := counts(); c[0]+c[1]+c[2] != n || c[0] == 0 || c[1] == 0 || c[2] == 0 {
		t.Errorf("to three: %v", c)
	}
	steer(fds[1], 1)
	connect(t, fds[0], n)
	if c := counts(); c[0] != n {
		t.Errorf("to one: %v", c)
	}
	// One that comes takes no part before it is told to.
	steer(fds[0], 3)
	fourth := joining(t, AddrOf(fds[0]))
	connect(t, fds[0], n)
	if c := counts(); c[0]+c[1]+c[2] != n {
		t.Errorf("to three of four: %v and %d", c, queued(t, fourth))
	}
}

// TestSteerToPlaces: some of the sockets, wherever they are in the order; when one is shut down the last one gets its
// place.
func TestSteerToPlaces(t *testing.T) {
	t.Parallel()
	fds := group(t, 5)
	check := func(places []int, want ...int) {
		t.Helper()
		if err := steerTo(fds[1], places); err != nil {
			t.Fatal(err)
		}
		connect(t, fds[1], 60)
		for _, i := range want {
			if n := queued(t, fds[i]); n < 60/len(want)/4 {
				t.Errorf("to the places %v: %d of 60 came to socket %d", places, n, i)
			}
		}
		for i, fd := range fds {
			if rawfd.Listens(fd) && queued(t, fd) > 0 {
				t.Errorf("to the places %v: some came to socket %d", places, i)
			}
		}
	}
	check([]int{1, 4, 2}, 1, 4, 2)
	check([]int{3}, 3)
	if err := unix.Shutdown(fds[0], unix.SHUT_RDWR); err != nil || rawfd.Listens(fds[0]) {
		t.Fatal(err)
	}
	check([]int{0}, 4)
	check([]int{3, 0}, 3, 4)
	many := make([]int, 1024)
	for i := range many {
		many[i] = 2 - i%2
	}
	check(many, 1, 2)
}

func TestSteerRefuses(t *testing.T) {
	t.Parallel()
	if err := first(listeningAt(t, resolve(t, "127.0.0.1:0", "tcp")), 0); err == nil {
		t.Error("nothing is a number of sockets")
	}
	if err := first(-1, 1); err == nil {
		t.Error("steered nothing")
	}
}

// server answers on the connections of a socket, until its context ends.
func server(ctx context.Context, fd int) error {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(d), "listener")
	ln, err := net.FileListener(f)
	_ = f.Close()
	if err != nil {
		return err
	}
	defer func() { _ = ln.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = ln.(*net.TCPListener).SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		c, err := ln.Accept()
		if err != nil {
			return nil
		}
		_, _ = c.Write([]byte("x"))
		_ = c.Close()
	}
}

// hammer connects without a pause until stop is closed, and counts who is not answered.
func hammer(address string, stop <-chan struct{}) (failed, answered *atomic.Int64, wait func()) {
	failed, answered = new(atomic.Int64), new(atomic.Int64)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", address)
				if err == nil {
					_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
					_, err = c.Read(make([]byte, 1))
					_ = c.Close()
				}
				if err != nil {
					failed.Add(1)
				} else {
					answered.Add(1)
				}
			}
		})
	}
	return failed, answered, all.Wait
}

func serve(t *testing.T, fds ...int) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, fd := range fds {
		all.Go(func() {
			if err := server(ctx, fd); err != nil {
				t.Error(err)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

func awaitMore(n *atomic.Int64) {
	for want := n.Load() + 20; n.Load() < want; {
		time.Sleep(100 * time.Microsecond)
	}
}

// Shrinking as everybody does it: the worker that goes stops accepting, and its socket is closed. It loses connections,
// which shows that the next test could fail.
func TestShrinkByClosingLosesSome(t *testing.T) {
	t.Parallel()
	fds := group(t, 2)
	address := Local(fds[0])
	stop := make(chan struct{})
	failed, answered, wait := hammer(address, stop)
	end := serve(t, fds...)
	rounds := 0
	for begin := time.Now(); failed.Load() == 0 && time.Since(begin) < 20*time.Second; rounds++ {
		fd, err := beside(AddrOf(fds[0]))
		if err != nil {
			t.Fatal(err)
		}
		endThird := serve(t, fd)
		awaitMore(answered)
		endThird()
		_ = unix.Close(fd)
	}
	close(stop)
	wait()
	end()
	if failed.Load() == 0 {
		t.Errorf("%d sockets were closed, and nobody noticed", rounds)
	}
	t.Logf("%d of %d connections lost, %d sockets closed", failed.Load(), failed.Load()+answered.Load(), rounds)
}

// Shrinking as we do it, many times: the others accept on the socket as well, new connections are steered away, and
// then its worker goes.
func TestShrinkBySteeringLosesNothing(t *testing.T) {
	t.Parallel()
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	fds := group(t, 3)
	stop := make(chan struct{})
	failed, answered, wait := hammer(Local(fds[0]), stop)
	end := serve(t, fds[:2]...)
	endOthers := func() {}
	for range rounds {
		endThird := serve(t, fds[2])
		endOthers()
		if err := first(fds[0], 3); err != nil {
			t.Fatal(err)
		}
		awaitMore(answered)
		endOthers = serve(t, fds[2], fds[2])
		if err := first(fds[0], 2); err != nil {
			t.Fatal(err)
		}
		endThird()
		awaitMore(answered)
		if failed.Load() > 0 {
			break
		}
	}
	close(stop)
	wait()
	end()
	endOthers()
	if failed.Load() != 0 {
		t.Errorf("%d of %d were lost", failed.Load(), answered.Load())
	}
}
