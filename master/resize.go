package master

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"baton/master/internal/control"
)

// Resize changes the number of slots.
func (b backend) Resize(ctx context.Context, workers int) error {
	var err error
	if cerr := b.call(ctx, func() {
		if err = b.m.resize(workers); err == nil {
			b.m.sized = true
		}
	}); cerr != nil {
		return cerr
	}
	if err != nil {
		return &control.RefusedError{Reason: fmt.Sprintf("resize: %v", err)}
	}
	return nil
}

// resize changes the number of slots of the current generation. It holds until the config says another number. After an
// error nothing has changed.
func (m *master) resize(n int) error {
	switch {
	case m.stopping:
		return errors.New("baton is stopping")
	case n < 1 || n > MaxWorkers:
		return fmt.Errorf("%d workers: want 1 to %d", n, MaxWorkers)
	case n < m.want:
		m.shrinkSockets(n)
	case n > m.want:
		if err := m.roomFor(n); err != nil {
			return err
		}
		if err := m.growSockets(n); err != nil {
			return err
		}
	}
	m.warnings.drop(warnResize)
	if n == m.want {
		return nil
	}
	m.log.Info("master: resize", "from", m.want, "to", n)
	m.want = n
	m.steer()
	m.storeCount()
	m.serving()
	return nil
}

// warnResize is the key of a resize that nobody waits for.
const warnResize = "resize"

// resizeTo is for those who wait for no answer: signals, and what a predecessor was asked for.
func (m *master) resizeTo(n int) {
	if m.stopping {
		return
	}
	if err := m.resize(min(max(n, 1), MaxWorkers)); err != nil {
		m.warnOf(warnResize, fmt.Sprintf("resize to %d workers: %v", n, err))
	}
}

// Descriptors of the master: those that a worker takes, less those of sockets; and those that must be left over, for a
// reload, for the control socket, and for a worker that is being started.
const (
	filesOfWorker = 1
	filesSpare    = 12
)

// roomFor fails if the limit of open files would not allow n slots. The keeper has the same limit, and holds the same
// descriptors: at the limit no reload would work any more.
func (m *master) roomFor(n int) error {
	var limit unix.Rlimit
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return nil //nolint:nilerr // then it is seen when something fails
	}
	each := filesOfWorker
	for _, l := range m.cfg.Listen {
		if l.ReusePort {
			each++
		}
	}
	if need := len(open) + (n-m.want)*each + filesSpare; uint64(need) > limit.Cur {
		return fmt.Errorf("%d workers need %d open files in the master, and its limit is %d", n, need, limit.Cur)
	}
	return nil
}
