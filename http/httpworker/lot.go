package httpworker

import (
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
	"baton/worker/rawfd"
)

// lot is the place of the connections that came from other workers and wait for a request: net/http does not see them
// before one comes. It is the server's mover as well.
type lot struct {
	s        *server
	exchange *handover.Handover
	park     *handover.IdlePool

	mu       sync.Mutex
	offered  int        // given away, and not answered yet
	answered *sync.Cond // there are fewer of them
}

// openLot makes the server one that gives and takes idle connections, if it is one of those that can.
func (s *server) openLot() error {
	if err := selfTest(); err != nil {
		return err
	}
	l := &lot{s: s, exchange: s.env.Handover()}
	l.answered = sync.NewCond(&l.mu)
	park, err := handover.NewIdlePool(l.ready, l.expired)
	if err != nil {
		return fmt.Errorf("httpworker: %w", err)
	}
	l.park = park
	for key, from := range s.origins {
		if !from.stays {
			l.exchange.Register(key, l.arrive)
		}
	}
	s.lot, s.mover = l, l
	return nil
}

// arrive parks what another worker has given. It counts from now on.
func (l *lot) arrive(c handover.Conn) {
	l.s.open.Add(1)
	l.s.env.Counters.Conns.Add(1)
	l.park.Add(c)
}

// left is the end of arrive's counting.
func (l *lot) left() {
	l.s.env.Counters.Conns.Add(-1)
	l.s.open.Done()
}

// retryPause is how long a connection waits when the process is out of descriptors: to give it to net/http takes one
// more.
const retryPause = 50 * time.Millisecond

// ready gives a connection on which something has come to net/http.
func (l *lot) ready(c handover.Conn) {
	nc, err := l.s.env.Open(c)
	if rawfd.Exhausted(err) {
		time.AfterFunc(retryPause, func() { l.ready(c) })
		return
	}
	_ = unix.Close(c.FD)
	if err == nil {
		nc, err = l.s.adopt(nc, l.s.origins[c.Key]) // counted before left: the connection is never nobody's
	}
	if err == nil {
		l.s.arrive(nc)
	} else {
		l.s.env.Counters.CutConns.Add(1)
		l.s.env.Log.Error("http: a connection that has moved was lost", "error", err)
	}
	l.left()
}

// expired closes a connection whose idle time is up.
func (l *lot) expired(c handover.Conn) {
	_ = unix.Close(c.FD)
	l.s.countIdleClose(nil)
	l.left()
}

// move is the mover's: it gives away a connection that net/http serves, and waits for the answer.
func (l *lot) move(c *conn) bool {
	fd, idle, err := c.duplicate()
	if rawfd.Exhausted(err) {
		c.moveLater()
		return false
	}
	if err != nil {
		return false
	}
	answer := make(chan bool, 1)
	l.give(handover.Conn{FD: fd, Key: c.origin.key, Idle: idle}, func(taken bool) bool {
		answer <- taken
		return false
	})
	return <-answer
}

func (l *lot) wants(c *conn) bool { return l.exchange.HasTaker(c.origin.key) }

// moveLater has the mover asked again after a while, in which others have left.
func (c *conn) moveLater() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.later = true
	time.AfterFunc(retryPause, c.poke)
}

// duplicate returns a descriptor of the connection's socket, and how long it may still be idle.
func (c *conn) duplicate() (fd int, idle time.Duration, err error) {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return -1, 0, err
	}
	if cerr := raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return -1, 0, cerr
	}
	if err == nil && rawfd.NearLimit(fd) { // what is left is needed to send this one
		_ = unix.Close(fd)
		return -1, 0, unix.EMFILE
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	idle = c.s.IdleTimeout
	if !c.clock.waiting.IsZero() {
		idle = max(0, time.Until(c.clock.waiting))
	}
	return fd, idle, err
}

// give offers a connection. Its descriptor is closed when somebody has answered, unless answer keeps it.
func (l *lot) give(c handover.Conn, answer func(taken bool) (kept bool)) {
	l.mu.Lock()
	l.offered++
	l.mu.Unlock()
	l.exchange.Give(handover.Offer{Conn: c, Done: func(taken bool) {
		l.mu.Lock()
		l.offered--
		l.answered.Broadcast()
		l.mu.Unlock()
		if !answer(taken) {
			_ = unix.Close(c.FD)
		}
	}})
}

// Connections are moved moveChunk at a time, and no more than maxOffered are between two workers: the others are served
// meanwhile.
const (
	moveChunk  = 199
	maxOffered = 2 * moveChunk
)

// awaitRoom waits until more may be offered.
func (l *lot) awaitRoom() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.offered > maxOffered {
		l.answered.Wait()
	}
}

// moveAll offers what is parked. What nobody takes lingers, in net/http's hands.
func (l *lot) moveAll() {
	for l.s.moving() {
		chunk := l.park.Take(moveChunk)
		if len(chunk) == 0 {
			return
		}
		l.giveAll(chunk)
		l.awaitRoom()
	}
}

func (l *lot) giveAll(chunk []handover.Conn) {
	for _, c := range chunk {
		l.give(c, func(taken bool) bool {
			if taken {
				l.left()
				return false
			}
			go l.ready(c)
			return true
		})
	}
}

// stop: what waits does so for a moment more.
func (l *lot) stop() { l.park.Limit(stopWait) }

// cut closes what is parked and returns how many that were.
func (l *lot) cut() int64 {
	all := l.park.Take(l.park.Len())
	for _, c := range all {
		_ = unix.Close(c.FD)
		l.left()
	}
	return int64(len(all))
}

// arrivalListener is what arrives as net/http's listener.
type arrivalListener struct {
	arrivals <-chan net.Conn
	ended    <-chan struct{}
}

// Accept returns the next connection that has something to read.
func (a *arrivalListener) Accept() (net.Conn, error) {
	select {
	case c := <-a.arrivals:
		return c, nil
	case <-a.ended:
		return nil, net.ErrClosed
	}
}

// Close does nothing: Accept ends with the server.
func (a *arrivalListener) Close() error { return nil }

// Addr is nobody's.
func (a *arrivalListener) Addr() net.Addr { return &net.UnixAddr{Name: "handover", Net: "unix"} }
