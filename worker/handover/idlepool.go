package handover

import (
	"container/heap"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// An IdlePool keeps connections that wait for their next request. One costs a map entry, no goroutine and no buffer; a
// single epoll watches all. A connection leaves when it becomes readable, when its idle time is up, or with Take.
type IdlePool struct {
	// Ready is called with a connection that has become readable, or was closed by its client.
	Ready func(Conn)
	// Expired is called with one whose idle time is up and on which nothing has come. It is to be closed.
	Expired func(Conn)

	mu     sync.Mutex
	ep     int
	file   *os.File // the epoll, as something that the runtime can wait for
	conns  map[int32]*parked
	queue  deadlines
	timer  *time.Timer
	closed bool
}

type parked struct {
	Conn
	until time.Time
	index int // in the queue
}

// NewIdlePool makes an empty IdlePool. ready and expired are called on its goroutines, without a lock held. They must
// not block for long.
func NewIdlePool(ready, expired func(Conn)) (*IdlePool, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("idle pool: %w", err)
	}
	_ = unix.SetNonblock(ep, true) // or os.NewFile would not wait for it
	p := &IdlePool{Ready: ready, Expired: expired, ep: ep, conns: map[int32]*parked{}}
	p.file = os.NewFile(uintptr(ep), "idle pool")
	raw, err := p.file.SyscallConn()
	if err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("idle pool: %w", err)
	}
	p.timer = time.AfterFunc(time.Hour, p.expire)
	p.timer.Stop()
	go p.await(raw)
	return p, nil
}

// Add parks a connection. If it cannot be watched, it is ready at once.
func (p *IdlePool) Add(c Conn) {
	if !p.add(c) {
		p.Ready(c)
	}
}

func (p *IdlePool) add(c Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: int32(c.FD)}
	if unix.EpollCtl(p.ep, unix.EPOLL_CTL_ADD, c.FD, &ev) != nil {
		return false
	}
	e := &parked{Conn: c, until: time.Now().Add(c.Idle)}
	p.conns[int32(c.FD)] = e
	heap.Push(&p.queue, e)
	if e.index == 0 {
		p.timer.Reset(c.Idle)
	}
	return true
}

// Len is how many are parked.
func (p *IdlePool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Take takes up to n connections out, with what is left of their idle time: those first that have the least.
func (p *IdlePool) Take(n int) []Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Conn
	for len(all) < n && len(p.queue) > 0 {
		all = append(all, p.remove(p.queue[0]))
	}
	p.arm()
	return all
}

// Limit shortens the idle time that is left to all connections.
func (p *IdlePool) Limit(idle time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	until := time.Now().Add(idle)
	for _, e := range p.conns {
		if e.until.After(until) {
			e.until = until
		}
	}
	heap.Init(&p.queue)
	p.arm()
}

// Close ends the IdlePool. What is still in it is the caller's, by Take.
func (p *IdlePool) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.file.Close()
}

// remove takes a connection out, with what is left of its idle time. It is called with the lock held.
func (p *IdlePool) remove(e *parked) Conn {
	if !p.closed { // a closed epoll watches nothing, and its number may be another's
		_ = unix.EpollCtl(p.ep, unix.EPOLL_CTL_DEL, e.FD, nil)
	}
	delete(p.conns, int32(e.FD))
	heap.Remove(&p.queue, e.index)
	e.Idle = max(0, time.Until(e.until))
	return e.Conn
}

func (p *IdlePool) arm() {
	if len(p.queue) == 0 {
		p.timer.Stop()
		return
	}
	p.timer.Reset(time.Until(p.queue[0].until))
}

// await waits for readable connections, until Close.
func (p *IdlePool) await(raw syscall.RawConn) {
	events := make([]unix.EpollEvent, 128)
	for {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil || n < 0 {
			return
		}
		for _, ev := range events[:n] {
			if c, ok := p.leave(ev.Fd); ok {
				p.Ready(c)
			}
		}
	}
}

// leave takes one connection out, unless it has left already.
func (p *IdlePool) leave(fd int32) (Conn, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.conns[fd]
	if !ok {
		return Conn{}, false
	}
	return p.remove(e), true
}

// expire takes out those whose time is up. What has come in the last moment is a request, and is served.
func (p *IdlePool) expire() {
	var old []Conn
	p.mu.Lock()
	for now := time.Now(); len(p.queue) > 0 && !p.queue[0].until.After(now); {
		old = append(old, p.remove(p.queue[0]))
	}
	p.arm()
	p.mu.Unlock()
	for _, c := range old {
		if rawfd.Readable(c.FD) {
			p.Ready(c)
		} else {
			p.Expired(c)
		}
	}
}

// deadlines is a heap, the earliest first.
type deadlines []*parked

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].until.Before(d[j].until) }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].index, d[j].index = i, j
}

func (d *deadlines) Push(x any) {
	e := x.(*parked)
	e.index = len(*d)
	*d = append(*d, e)
}

func (d *deadlines) Pop() any {
	old := *d
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return e
}
