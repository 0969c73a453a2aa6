package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/listen"
	"baton/master/internal/status"
	"baton/worker/rawfd"
)

// Client asks the baton behind a control socket. It begins with the question which baton that is, which is answered at
// once, and repeats it while a longer answer is awaited: a supervisor that was stopped, and a process that is not
// baton, are not waited for.
type Client struct {
	Limit    time.Duration // for the answer to that question; 4 s
	Interval time.Duration // between two of these questions; 2 s

	path string
	http http.Client
	peer atomic.Int64 // the PID of the process that listens
}

// NewClient returns a client of the control socket at path, which may be longer than the kernel lets addresses be.
func NewClient(path string) *Client {
	c := &Client{Limit: 4 * time.Second, Interval: 2 * time.Second, path: path}
	c.http.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := listen.Dial(ctx, path)
			if err != nil {
				return nil, err
			}
			if cred, err := rawfd.Peer(conn); err == nil {
				c.peer.Store(int64(cred.Pid))
			}
			return conn, nil
		},
	}
	return c
}

// Path returns the path of the control socket.
func (c *Client) Path() string { return c.path }

// SilentError says that the process that listens does not answer.
type SilentError struct{ Process }

func (e *SilentError) Error() string { return e.Silence() }

// Identify asks which baton answers.
func (c *Client) Identify(ctx context.Context) (id status.Identity, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	for tries := 0; ; tries++ {
		err = c.once(ctx, http.MethodGet, "/version", &id)
		// EAGAIN: the socket's queue is full
		full, exiting := errors.Is(err, syscall.EAGAIN), brokenOff(err) && tries < 10
		if !full && !exiting || wait(ctx, c.Interval/100) != nil {
			break
		}
	}
	var answered *Error
	switch {
	case err == nil && id.SupervisorPID > 0:
		return id, nil
	case ctx.Err() != nil || errors.Is(err, syscall.EAGAIN):
		return id, c.error(&SilentError{Look(int(c.peer.Load()))})
	case absent(err), errors.Is(err, syscall.EACCES),
		errors.As(err, &answered) && answered.Code == http.StatusForbidden:
		return id, c.explain(err)
	}
	return id, c.error(fmt.Errorf("process %d, which listens there, is not baton", c.peer.Load()))
}

// Ask identifies the baton, sends a request, and waits for its answer as long as the baton can still be identified. The
// answer is decoded into v; a *[]byte gets it as it is. Any other status than a success is an [*Error].
func (c *Client) Ask(ctx context.Context, method, target string, v any) error {
	if _, err := c.Identify(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for wait(ctx, c.Interval) == nil {
			if _, err := c.Identify(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		}
	}()
	err := c.once(ctx, method, target, v)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return c.explain(err)
}

// Stop asks baton to stop, and returns when its supervisor has exited. It holds the supervisor by a pidfd before it
// asks, so that the PID cannot become another process's.
func (c *Client) Stop(ctx context.Context) error {
	id, err := c.Identify(ctx)
	if err != nil {
		return err
	}
	fd, err := unix.PidfdOpen(id.SupervisorPID, 0)
	if errors.Is(err, unix.ESRCH) && c.gone(ctx) {
		return nil // it has exited since
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", id.SupervisorPID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var ignored []byte
	if err := c.Ask(ctx, http.MethodPost, "/stop", &ignored); err != nil {
		if exited, _ := exitsWithin(fd, c.Limit); !exited { // else it did before it could answer
			return err
		}
	}
	for {
		exited, err := exitsWithin(fd, c.Interval)
		if err != nil || exited {
			return err
		}
		if p := Look(id.SupervisorPID); p.Stopped {
			return &SilentError{p}
		}
	}
}

// gone reports whether nothing listens any more. The PID of a supervisor in another container means no process here,
// too.
func (c *Client) gone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	defer cancel()
	var ignored []byte
	return absent(c.once(ctx, http.MethodGet, "/version", &ignored))
}

// exitsWithin reports whether the process of a pidfd exits in that time.
func exitsWithin(pidfd int, limit time.Duration) (bool, error) {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// once sends one request.
func (c *Client) once(ctx context.Context, method, target string, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://baton"+target, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return &Error{resp.StatusCode, errorText(resp.Status, body)}
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = body
		return nil
	}
	return json.Unmarshal(body, v)
}

// errorText returns what the body says, as text or as {"error": …}.
func errorText(status string, body []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		return e.Error
	}
	if s := strings.TrimSpace(string(body)); s != "" {
		return s
	}
	return status
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// absent reports whether err is that nothing listens.
func absent(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// brokenOff reports whether err is that the connection ended before the answer, as when baton exits.
func brokenOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (c *Client) error(err error) error { return fmt.Errorf("control socket %s: %w", c.path, err) }

// explain returns the error of a request without its made-up URL.
func (c *Client) explain(err error) error {
	var answered *Error
	var errno syscall.Errno
	switch {
	case err == nil, errors.As(err, &answered):
		return err
	case brokenOff(err):
		return c.error(errors.New("baton exited before it answered"))
	case absent(err) && errors.As(err, &errno):
		return fmt.Errorf("nothing listens on the control socket %s: %w", c.path, errno)
	case errors.As(err, &errno):
		return c.error(errno)
	}
	if inner := errors.Unwrap(err); inner != nil && strings.Contains(err.Error(), "http://baton") {
		err = inner
	}
	return c.error(err)
}
