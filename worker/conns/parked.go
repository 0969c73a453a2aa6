package conns

import (
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
	"baton/worker/rawfd"
)

// take is for connections that come from other workers: they are parked. They count from now on.
func (e *Engine) take(c handover.Conn) {
	e.open.Add(1)
	e.Counters.Conns.Add(1)
	if e.pool == nil {
		e.wakeParked(c)
		return
	}
	e.pool.Add(c)
}

// leave is the end of take's counting.
func (e *Engine) leave() {
	e.Counters.Conns.Add(-1)
	e.open.Done()
}

// wakeParked goes on with a connection on which something has come. Its Conn is added before it leaves: it is never
// nobody's.
func (e *Engine) wakeParked(c handover.Conn) {
	nc, err := c.Open()
	if rawfd.Exhausted(err) { // to open it takes one descriptor more
		time.AfterFunc(resourcePause, func() { e.wakeParked(c) })
		return
	}
	defer e.leave()
	if err != nil {
		e.Counters.CutConns.Add(1)
		e.Log.Error("conns: a connection that has moved was lost", "error", err)
		return
	}
	e.Serve(e.Counters.Conns.Track(nc), e.listeners[c.Key])
}

// closeParked closes a connection whose idle time is up.
func (e *Engine) closeParked(c handover.Conn) {
	_ = unix.Close(c.FD)
	if e.Stopping() {
		e.Counters.CutConns.Add(1)
	}
	e.leave()
}

// giveParked offers parked connections. What nobody takes goes on here.
func (e *Engine) giveParked(chunk []handover.Conn) {
	for _, c := range chunk {
		e.give(c, func(taken bool) {
			if !taken {
				go e.wakeParked(c)
				return
			}
			_ = unix.Close(c.FD)
			e.leave()
		})
	}
}

func (e *Engine) parked() int {
	if e.pool == nil {
		return 0
	}
	return e.pool.Len()
}

// evictParked closes up to n of those that are parked, and returns how many.
func (e *Engine) evictParked(n int) int {
	if e.pool == nil {
		return 0
	}
	all := e.pool.Take(n)
	for _, c := range all {
		if rawfd.Readable(c.FD) {
			go e.wakeParked(c)
			continue
		}
		_ = unix.Close(c.FD)
		e.Counters.Evicted.Add(1)
		e.leave()
	}
	return len(all)
}

// cutParked closes what is parked and returns how many that were.
func (e *Engine) cutParked() int64 {
	if e.pool == nil {
		return 0
	}
	all := e.pool.Take(e.pool.Len())
	for _, c := range all {
		_ = unix.Close(c.FD)
		e.leave()
	}
	return int64(len(all))
}
