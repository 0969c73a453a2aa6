package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/peer"
)

// stop is `baton stop`: it returns when the tree is gone.
func stop(args []string, u *ui) int {
	fs := newClientFlags("stop")
	if err := fs.parse(args, 0); err != nil {
		return u.failFlags(fs.flagSet, err)
	}
	c, err := fs.client()
	if err != nil {
		return u.fail(err)
	}
	return c.stop(context.Background(), u)
}

// stop holds the supervisor by a pidfd before it asks, so that the number cannot become another process's.
func (c *client) stop(ctx context.Context, u *ui) int {
	id, err := c.hello(ctx)
	if err != nil {
		return u.fail(err)
	}
	supervisor, err := openProcess(id.SupervisorPID)
	if errors.Is(err, unix.ESRCH) && c.gone(ctx) {
		u.say("stopped") // while we asked
		return exitOK
	}
	if err != nil {
		return u.fail(&trouble{err: err, hint: "`baton stop` must run where it sees baton's processes: the same container"})
	}
	defer supervisor.close()
	var ignored []byte
	if err := c.ask(ctx, http.MethodPost, "/stop", &ignored); err != nil && !supervisor.goneWithin(c.limit) {
		return u.fail(err)
	}
	if err := supervisor.wait(c.every); err != nil {
		return u.fail(err)
	}
	u.say("stopped")
	return exitOK
}

// gone reports whether nobody listens any more. The number of a supervisor in another container is nobody's here, too.
func (c *client) gone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	var ignored []byte
	return nobody(c.once(ctx, http.MethodGet, "/version", &ignored))
}

// process is a process that cannot be mistaken for another one.
type process struct{ pid, fd int }

func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	return &process{pid, fd}, nil
}

func (p *process) close() { _ = unix.Close(p.fd) }

// goneWithin reports whether the process ends in that time: one that does not answer any more may be just about to.
func (p *process) goneWithin(limit time.Duration) bool {
	n, err := p.poll(int(limit.Milliseconds()))
	return err == nil && n > 0
}

// wait waits until it has. One that is stopped is not waited for, which is looked at every now and then.
func (p *process) wait(every time.Duration) error {
	for {
		n, err := p.poll(int(every.Milliseconds()))
		switch seen := peer.Look(p.pid); {
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case n > 0:
			return nil
		case seen.Stopped:
			return &trouble{err: errors.New(seen.Silence())}
		}
	}
}

func (p *process) poll(timeout int) (int, error) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, timeout)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
