package worker

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Of the process's limit of open files an eighth is kept back for what requests open, files and connections to upstreams:
// at least reserveLeast, at most reserveMost.
const (
	reserveLeast = 32
	reserveMost  = 1024
)

// roomFor is how many connections a process may have: those that were configured, or if that is 0 what its limit of open
// files allows.
func roomFor(configured int) int64 {
	if configured > 0 {
		return int64(configured)
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1 << 31
	}
	files := int64(min(limit.Cur, 1<<31))
	return max(1, files-min(max(files/8, reserveLeast), reserveMost))
}

// ConnCount counts the connections that are open. Listeners accept no more of them than there is room for. What comes from
// [Env.Listener] and [Env.Open] counts itself, until it is closed.
type ConnCount struct {
	n       atomic.Int64
	waiting atomic.Int32 // who waits for room

	mu   sync.Mutex
	room chan struct{} // closed when there may be room
}

// Add counts n connections more, or fewer.
func (c *ConnCount) Add(n int64) {
	c.n.Add(n)
	if n < 0 && c.waiting.Load() > 0 {
		c.wake()
	}
}

// Load is how many connections are open.
func (c *ConnCount) Load() int64 { return c.n.Load() }

func (c *ConnCount) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// changed is closed when a connection has closed after the call, for who has added itself to waiting.
func (c *ConnCount) changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.room == nil {
		c.room = make(chan struct{})
	}
	return c.room
}
