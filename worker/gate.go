package worker

import (
	"fmt"
	"sync"
	"time"
)

// gate is what a process does when it has no room for a connection: it does not accept, so what comes waits in the
// kernel, where other workers may take it, until one of its own connections has closed.
type gate struct {
	env   *Env
	limit int64 // of connections

	mu     sync.Mutex
	shed   []func()
	reason string    // why some listener waits
	held   int       // how many of them
	times  int       // that one did, since it was logged
	logged time.Time // zero: never
}

func (g *gate) full() bool { return g.env.Counters.Conns.Load() >= g.limit }

// room is how many more connections there is room for.
func (g *gate) room() int { return int(max(0, g.limit-g.env.Counters.Conns.Load())) }

// OnFull has f called when connections wait for which there is no room: it may close some that are idle. As long as that
// does not help it is called again and again. OnFull is called before Ready.
//
// Threading: f is called on the goroutines of Accept. It must not block.
func (e *Env) OnFull(f func()) {
	e.gate.mu.Lock()
	defer e.gate.mu.Unlock()
	e.gate.shed = append(e.gate.shed, f)
}

// heldBecause says why the process does not accept at the moment, or "".
func (g *gate) heldBecause() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == 0 {
		return ""
	}
	return g.reason
}

func (g *gate) makeRoom() {
	g.mu.Lock()
	all := g.shed
	g.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// logAgain is how long a lack is not logged again.
const logAgain = time.Minute

func (g *gate) enter(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reason = why
	g.held++
	g.times++
	if now := time.Now(); g.logged.IsZero() || now.Sub(g.logged) > logAgain {
		g.env.Log.Warn("worker: no room, connections wait in the kernel", "because", why,
			"open", g.env.Counters.Conns.Load(), "times", g.times)
		g.logged, g.times = now, 0
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held--
}

// shedPause is how long a connection may wait for another worker before idle ones are closed for it.
const shedPause = 10 * time.Millisecond

// awaitRoom waits until there is room for a connection, or something is said to l.
func (g *gate) awaitRoom(l *listener, ln acceptor) {
	if !g.full() {
		return
	}
	conns := &g.env.Counters.Conns
	defer conns.Watch()()
	g.enter(fmt.Sprintf("%d connections are the limit", g.limit))
	defer g.leave()
	q := watchBacklog(ln)
	defer q.close()
	for waited := false; ; {
		changed := conns.Changed() // before the look
		if !g.full() {
			return
		}
		var queued <-chan struct{}
		var pause time.Duration
		switch {
		case ln.Waiting():
			pause = shedPause
			if waited {
				g.makeRoom()
			}
		case q.file != nil:
			queued = q.event()
		default:
			pause = longPause
		}
		var told bool
		if waited, told = g.pause(l, l.done, changed, queued, pause); told {
			return
		}
	}
}

// Pauses of a listener after accept has failed: the first, which doubles up to the last.
const (
	firstPause = 10 * time.Millisecond
	longPause  = time.Second
)

// awaitFiles waits after accept has failed for want of descriptors or memory, for the tries-th time in a row. The kernel
// says so also when nobody waits.
func (g *gate) awaitFiles(l *listener, ln acceptor, lack error, tries int) {
	conns := &g.env.Counters.Conns
	defer conns.Watch()()
	g.enter(lack.Error())
	defer g.leave()
	changed := conns.Changed()
	if ln.Waiting() {
		g.makeRoom()
	}
	done := l.done
	if l.isEnding() { // it is to go on
		done = nil
	}
	g.pause(l, done, changed, nil, min(firstPause<<min(tries, 10), longPause))
}

// pause waits for the first of its channels or, unless limit is 0, for that time. told: the listener is to look what it
// was told, or everything ends.
func (g *gate) pause(l *listener, done, changed, queued <-chan struct{}, limit time.Duration) (timedOut, told bool) {
	var over <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-changed:
	case <-queued:
	case <-over:
		return true, false
	case <-done:
		return false, true
	case <-g.env.cut:
		return false, true
	}
	return false, false
}
