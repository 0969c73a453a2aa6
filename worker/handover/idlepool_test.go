package handover

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// testPool is an IdlePool with connections whose far ends the test has.
type testPool struct {
	*IdlePool
	t       *testing.T
	ready   chan Conn
	expired chan Conn
}

func newTestPool(t *testing.T) *testPool {
	t.Helper()
	l := &testPool{t: t, ready: make(chan Conn, 10_000), expired: make(chan Conn, 10_000)}
	p, err := NewIdlePool(func(c Conn) { l.ready <- c }, func(c Conn) { l.expired <- c })
	if err != nil {
		t.Fatal(err)
	}
	l.IdlePool = p
	t.Cleanup(p.Close)
	return l
}

// socket is a connection and its far end.
func socket(t *testing.T) (near, far int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(p[0]), unix.Close(p[1]) })
	return p[0], p[1]
}

func write(t *testing.T, fd int) {
	t.Helper()
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
}

func (l *testPool) want(from <-chan Conn, fd int) Conn {
	l.t.Helper()
	c := receive(l.t, from)
	if c.FD != fd {
		l.t.Errorf("descriptor %d, want %d", c.FD, fd)
	}
	return c
}

func TestIdlePoolReadable(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	near, far := socket(t)
	idle, _ := socket(t)
	l.Add(Conn{FD: idle, Key: key("idle"), Idle: time.Hour})
	for range 10 { // again and again: an edge that is missed would be the last
		l.Add(Conn{FD: near, Key: key("k"), Idle: time.Minute})
		write(t, far)
		c := l.want(l.ready, near)
		if c.Key != key("k") || c.Idle > time.Minute || c.Idle < time.Minute-patience {
			t.Errorf("%+v", c)
		}
		wantWords(t, near, "x") // nothing was read
	}
	write(t, far)
	l.Add(Conn{FD: near, Idle: time.Minute}) // it is so already
	l.want(l.ready, near)
	if l.Len() != 1 || len(l.ready)+len(l.expired) != 0 {
		t.Errorf("%d parked", l.Len())
	}
}

func TestIdlePoolClosedByClient(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	c := connect(t, 3)
	for _, fd := range c.fds {
		l.Add(Conn{FD: fd, Idle: time.Hour})
	}
	_ = c.conns[1].Close()
	l.want(l.ready, c.fds[1])
	if l.Len() != 2 {
		t.Errorf("%d parked, want 2", l.Len())
	}
}

func TestIdlePoolExpires(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	late, _ := socket(t)
	early, _ := socket(t)
	begin := time.Now()
	l.Add(Conn{FD: late, Idle: 60 * time.Millisecond})
	l.Add(Conn{FD: early, Idle: 20 * time.Millisecond})
	l.want(l.expired, early)
	if d := time.Since(begin); d < 20*time.Millisecond {
		t.Errorf("expired after %v", d)
	}
	l.want(l.expired, late)
	if d := time.Since(begin); d < 60*time.Millisecond || l.Len() != 0 {
		t.Errorf("expired after %v, %d left", d, l.Len())
	}
	over, _ := socket(t)
	l.Add(Conn{FD: over})
	l.want(l.expired, over)
}

// A request that has come just in time is served, though its event was not seen yet.
func TestIdlePoolLastMoment(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	near, far := socket(t)
	l.Add(Conn{FD: near, Idle: 50 * time.Millisecond})
	l.mu.Lock()
	_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, near, nil)
	l.mu.Unlock()
	write(t, far)
	l.want(l.ready, near)
	if len(l.expired) != 0 {
		t.Error("expired as well")
	}
}

func TestIdlePoolTake(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	var near, far [4]int
	for i, minutes := range []int{3, 1, 4, 2} {
		near[i], far[i] = socket(t)
		l.Add(Conn{FD: near[i], Key: key("k"), Idle: time.Duration(minutes) * time.Minute})
	}
	two := l.Take(2)
	if len(two) != 2 || two[0].FD != near[1] || two[1].FD != near[3] {
		t.Fatalf("%+v, want those first that have the least time", two)
	}
	for i, c := range two {
		most := time.Duration(i+1) * time.Minute
		if c.Idle > most || c.Idle < most-patience || c.Key != key("k") {
			t.Errorf("%+v", c)
		}
	}
	write(t, far[1]) // it is ours
	write(t, far[2])
	l.want(l.ready, near[2])
	if rest := l.Take(100); len(rest) != 1 || rest[0].FD != near[0] {
		t.Errorf("%+v", rest)
	}
	if l.Len() != 0 || len(l.ready)+len(l.expired) != 0 || len(l.Take(1)) != 0 {
		t.Error("there is more")
	}
}

func TestIdlePoolLimit(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	long, _ := socket(t)
	short, _ := socket(t)
	l.Add(Conn{FD: long, Idle: time.Hour})
	l.Add(Conn{FD: short, Idle: 10 * time.Millisecond})
	begin := time.Now()
	l.Limit(100 * time.Millisecond)
	l.want(l.expired, short) // a limit makes nothing longer
	l.want(l.expired, long)
	if d := time.Since(begin); d < 100*time.Millisecond {
		t.Errorf("expired after %v", d)
	}
	l.Limit(0)
}

func TestIdlePoolAfterClose(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	a, _ := socket(t)
	b, _ := socket(t)
	l.Add(Conn{FD: a, Idle: time.Hour})
	l.Close()
	l.Add(Conn{FD: b, Idle: time.Hour})
	l.want(l.ready, b)
	if c := l.Take(10); len(c) != 1 || c[0].FD != a {
		t.Errorf("%+v", c)
	}
}

// The number of an IdlePool's epoll may be another IdlePool's when it is closed.
func TestClosedIdlePoolLeavesOthersAlone(t *testing.T) { //nolint:paralleltest // another test would take the number
	l := newTestPool(t)
	near, far := socket(t)
	l.Add(Conn{FD: near, Idle: time.Hour})
	l.Close()
	next := newTestPool(t)
	if next.ep != l.ep {
		t.Skip("the number was not used again")
	}
	next.Add(Conn{FD: near, Idle: time.Hour})
	l.Take(1)
	write(t, far)
	next.want(next.ready, near)
}

func TestIdlePoolThatCannotWatch(t *testing.T) {
	t.Parallel()
	l := newTestPool(t)
	l.Add(Conn{FD: 1 << 20, Idle: time.Hour})
	l.want(l.ready, 1<<20)
	if l.Len() != 0 {
		t.Error("it is parked all the same")
	}
}

// Whatever happens at the same time, every connection leaves once.
func TestIdlePoolThousands(t *testing.T) {
	t.Parallel()
	const n, rounds = 2000, 3
	l := newTestPool(t)
	near, far := make([]int, n), make([]int, n)
	for i := range n {
		near[i], far[i] = socket(t)
	}
	for round := range rounds {
		left := make([]atomic.Int64, 100_000)
		var all sync.WaitGroup
		var gone atomic.Int64
		note := func(c Conn) {
			left[c.FD].Add(1)
			gone.Add(1)
		}
		for part := range 4 {
			all.Go(func() {
				for i := part; i < n; i += 4 {
					l.Add(Conn{FD: near[i], Idle: time.Duration(1+rand.IntN(100)) * time.Millisecond})
				}
			})
			all.Go(func() {
				for i := part; i < n; i += 12 {
					_, _ = unix.Write(far[i], []byte("x"))
				}
			})
		}
		all.Go(func() {
			for gone.Load() < n {
				for _, c := range l.Take(rand.IntN(20)) {
					note(c)
				}
				time.Sleep(time.Millisecond)
			}
		})
		for timeout := time.After(patience); gone.Load() < n; {
			select {
			case c := <-l.ready:
				note(c)
			case c := <-l.expired:
				note(c)
			case <-time.After(time.Millisecond):
			case <-timeout:
				t.Fatalf("round %d: %d of %d have left, %d are parked", round, gone.Load(), n, l.Len())
			}
		}
		all.Wait()
		for _, fd := range near {
			if got := left[fd].Load(); got != 1 {
				t.Errorf("round %d: connection %d left %d times", round, fd, got)
			}
		}
		if l.Len() != 0 || len(l.ready)+len(l.expired) != 0 {
			t.Errorf("round %d: %d parked, %d more", round, l.Len(), len(l.ready)+len(l.expired))
		}
		buf := make([]byte, 10)
		for _, fd := range near {
			_, _ = unix.Read(fd, buf)
		}
	}
}
