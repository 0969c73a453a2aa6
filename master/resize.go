package master

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/supervisor"
)

// size is how many slots there are.
type size struct {
	desired   int
	grown     map[int]bool // the slots that are new in this generation, and have had no worker yet
	resizeSeq int64        // the last of the supervisor's requests that is in want
}

// onResize obeys the supervisor, and answers with the number of slots that there are then.
func (m *master) onResize(r message.Resize) {
	n := r.Workers
	if n == 0 { // TTIN or TTOU: nobody reads an error
		n = min(max(m.desired+r.Delta, 1), MaxWorkers)
	}
	answer := message.Put{Resized: r.Seq}
	if err := m.resize(n); err != nil {
		answer.Failed = err.Error()
		m.warnOf(warnResize, fmt.Sprintf("resize to %d workers: %v", n, err))
	}
	m.resizeSeq = max(m.resizeSeq, r.Seq)
	m.putCount(answer, m.desired, m.cfg.workers())
}

// putCount stores the number of slots, and that of the config at the time.
func (r *registry) putCount(p message.Put, slots, config int) {
	p.Name = supervisor.EntryCount
	r.put(p, message.Slots{Count: slots, Config: config}, -1)
}

// resize changes the number of slots of the current generation. It holds until the config says another number. After an
// error nothing has changed.
func (m *master) resize(n int) error {
	switch {
	case m.phase.isStopping():
		return errors.New("baton is stopping")
	case n < 1 || n > MaxWorkers:
		return fmt.Errorf("%d workers: want 1 to %d", n, MaxWorkers)
	case n < m.desired:
		m.sockets.Shrink(n)
	case n > m.desired:
		if err := roomFor(n, m.sockets.Needs(n)); err != nil {
			return err
		}
		if err := m.sockets.Grow(n); err != nil {
			return err
		}
	}
	m.warnings.drop(warnResize)
	if n == m.desired {
		return nil
	}
	m.log.Info("master: resize", "from", m.desired, "to", n)
	m.grown = map[int]bool{}
	for slot := m.desired; slot < n; slot++ {
		m.grown[slot] = true
	}
	m.desired = n
	m.crashes.Shrink(n)
	m.serveSockets()
	m.serving()
	return nil
}

// warnResize is the key of a resize that has failed.
const warnResize = "resize"

// Descriptors that a successor has open when it takes over: of each worker of its own (two) and of its predecessor, and
// besides the sockets, the configuration and the like. The supervisor has the same limit, and fewer.
const (
	filesOfWorkers = 4
	filesBesides   = 24
)

// roomFor fails if with n slots and so many sockets the limit of open files would not allow a reload any more.
func roomFor(n, sockets int) error {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return nil // then it is seen when something fails
	}
	if need := sockets + filesOfWorkers*n + filesBesides; uint64(need) > limit.Cur {
		return fmt.Errorf("a reload of %d workers needs %d open files, and the limit is %d", n, need, limit.Cur)
	}
	return nil
}
