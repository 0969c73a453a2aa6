package worker

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// connLimiter is what a process does when it has no room for a connection: it does not accept, so what comes waits in
// the kernel, where other workers may take it, until one of its own connections has closed.
type connLimiter struct {
	env   *Env
	limit int64 // of connections

	mu       sync.Mutex
	evictors []func()
	reason   string    // why some listener waits
	paused   int       // how many of them
	times    int       // that one did, since it was logged
	logged   time.Time // zero: never
}

func (g *connLimiter) full() bool { return g.env.Counters.Conns.Load() >= g.limit }

// room is how many more connections there is room for.
func (g *connLimiter) room() int { return int(max(0, g.limit-g.env.Counters.Conns.Load())) }

// OnFull has f called when connections wait for which there is no room: it may close some that are idle. As long as
// that does not help it is called again and again. OnFull is called before Ready.
//
// Threading: f is called on the goroutines of Accept. It must not block.
func (e *Env) OnFull(f func()) {
	e.limiter.mu.Lock()
	defer e.limiter.mu.Unlock()
	e.limiter.evictors = append(e.limiter.evictors, f)
}

// pausedBecause says why the process does not accept at the moment, or "".
func (g *connLimiter) pausedBecause() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused == 0 {
		return ""
	}
	return g.reason
}

func (g *connLimiter) evict() {
	g.mu.Lock()
	all := g.evictors
	g.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// logAgain is how long a lack is not logged again.
const logAgain = time.Minute

// pause notes that a listener does not accept, until resume is called. It is told meanwhile when connections close.
func (g *connLimiter) pause(reason string) (resume func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reason = reason
	g.paused++
	g.times++
	open := &g.env.Counters.Conns
	if now := time.Now(); g.logged.IsZero() || now.Sub(g.logged) > logAgain {
		g.env.Log.Warn("worker: accept paused, no room", "reason", reason, "open", open.Load(), "times", g.times)
		g.logged, g.times = now, 0
	}
	stop := open.Watch()
	return func() {
		stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.paused--
	}
}

// evictPause is how long a connection may wait for another worker before idle ones are closed for it.
const evictPause = 10 * time.Millisecond

// awaitRoom waits until there is room for a connection, or l ends.
func (g *connLimiter) awaitRoom(l *listener, ln acceptor) {
	if !g.full() {
		return
	}
	defer g.pause(fmt.Sprintf("%d connections are the limit", g.limit))()
	q := watchBacklog(ln)
	defer q.close()
	for woken := wokenByRoom; woken != wokenByEnd; {
		changed := g.env.Counters.Conns.Changed() // before the look
		switch {
		case !g.full():
			return
		case !ln.Waiting():
			woken = g.wait(l.done, changed, q.event(), q.blindness())
			continue
		case woken == wokenByTime:
			g.evict()
		}
		woken = g.wait(l.done, changed, nil, evictPause)
	}
}

// Pauses of a listener after accept has failed: the first, which doubles up to the last.
const (
	firstPause = 10 * time.Millisecond
	longPause  = time.Second
)

// awaitFiles waits after accept has failed for want of descriptors or memory, for the tries-th time in a row. The
// kernel says so also when nobody waits.
func (g *connLimiter) awaitFiles(l *listener, ln acceptor, lack error, tries int) {
	defer g.pause(lack.Error())()
	changed := g.env.Counters.Conns.Changed()
	if ln.Waiting() {
		g.evict()
	}
	done := l.done
	if l.isEnding() { // it is to go on
		done = nil
	}
	g.wait(done, changed, nil, min(firstPause<<min(tries, 10), longPause))
}

// woken is why a listener that has waited goes on.
type woken uint8

const (
	wokenByRoom    woken = iota // a connection has closed
	wokenByBacklog              // a connection has come
	wokenByTime
	wokenByEnd // of the listener, or of the drain
)

// wait waits for the first of its channels or, unless limit is 0, for that time.
func (g *connLimiter) wait(done, changed, queued <-chan struct{}, limit time.Duration) woken {
	var over <-chan time.Time
	if limit > 0 {
		over = time.After(limit)
	}
	select {
	case <-changed:
		return wokenByRoom
	case <-queued:
		return wokenByBacklog
	case <-over:
		return wokenByTime
	case <-done:
	case <-g.env.cut:
	}
	return wokenByEnd
}

// Of the process's limit of open files an eighth is kept back for what requests open, files and connections to
// upstreams: at least reserveLeast, at most reserveMost.
const (
	reserveLeast = 32
	reserveMost  = 1024
)

// connLimit is how many connections a process may have: those that were configured, or if that is 0 what its limit of
// open files allows.
func connLimit(configured int) int64 {
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
