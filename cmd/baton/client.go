package main

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

	"baton/master"
	"baton/master/peer"
)

// client asks the supervisor behind a control socket. Every command begins with the question who is there, which is answered
// at once. While a longer answer is awaited it is asked again and again: a supervisor that has been stopped, and a process
// that is no baton, are not waited for.
type client struct {
	path string
	http *http.Client
	peer atomic.Int64 // the PID of the process that listens

	limit time.Duration // how long the answer to that question may take
	every time.Duration // how often it is asked
}

func newClient(path string) *client {
	c := &client{path: path, limit: 4 * time.Second, every: 2 * time.Second}
	c.http = &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dialUnix(ctx, path)
			if err == nil {
				c.peer.Store(int64(peer.Of(conn).PID))
			}
			return conn, err
		},
	}}
	return c
}

// refusal is an answer that is not the one that was hoped for.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// ExitCode: what baton calls a bad request, the user has typed; a conflict is that it could not do what it was asked.
func (r *refusal) ExitCode() int {
	switch r.status {
	case http.StatusBadRequest:
		return exitUser
	case http.StatusConflict:
		return exitFailed
	}
	return exitSystem
}

// once asks once, and decodes the answer into v, which may be a *[]byte.
func (c *client) once(ctx context.Context, method, target string, v any) error {
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
		return &refusal{resp.StatusCode, refusalText(resp, body)}
	}
	if raw, ok := v.(*[]byte); ok {
		*raw = body
		return nil
	}
	return json.Unmarshal(body, v)
}

// refusalText is what the body says, as text or as {"error": …}.
func refusalText(resp *http.Response, body []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) == nil && e.Error != "" {
		return e.Error
	}
	if s := strings.TrimSpace(string(body)); s != "" {
		return s
	}
	return resp.Status
}

// hello asks who is there.
func (c *client) hello(ctx context.Context) (id master.Identity, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	for tries := 0; ; tries++ {
		err = c.once(ctx, http.MethodGet, "/version", &id)
		full, ending := errors.Is(err, syscall.EAGAIN), brokenOff(err) && tries < 10
		if !full && !ending || wait(ctx, c.every/100) != nil {
			break
		}
	}
	var r *refusal
	switch {
	case err == nil && id.SupervisorPID > 0:
		return id, nil
	case ctx.Err() != nil || errors.Is(err, syscall.EAGAIN):
		return id, &trouble{err: fmt.Errorf("control socket %s: %s", c.path, peer.Look(int(c.peer.Load())).Silence())}
	case nobody(err), errors.Is(err, syscall.EACCES), errors.As(err, &r) && r.status == http.StatusForbidden:
		return id, c.explain(err)
	}
	return id, &trouble{err: fmt.Errorf("control socket %s: process %d, which listens there, is not baton", c.path, c.peer.Load())}
}

// ask asks who is there and then the question, and waits for its answer as long as somebody is there.
func (c *client) ask(ctx context.Context, method, target string, v any) error {
	if _, err := c.hello(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go c.watch(ctx, cancel)
	err := c.once(ctx, method, target, v)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return c.explain(err)
}

// watch cancels what is awaited when nobody is there any more.
func (c *client) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	for wait(ctx, c.every) == nil {
		if _, err := c.hello(ctx); err != nil && ctx.Err() == nil {
			cancel(err)
			return
		}
	}
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

// nobody is true if nobody listens.
func nobody(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// brokenOff is true if the connection ended before the answer, as when baton ends.
func brokenOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// explain makes an error of a request one that a person can use.
func (c *client) explain(err error) error {
	var r *refusal
	switch {
	case err == nil, errors.As(err, &r):
		return err
	case nobody(err):
		return &trouble{
			err:  fmt.Errorf("nobody is at the control socket %s", c.path),
			hint: "is baton running? --control names its socket, or --config the file that does",
		}
	case errors.Is(err, syscall.EACCES):
		return &trouble{
			err:  fmt.Errorf("control socket %s: %w", c.path, syscall.EACCES),
			hint: "only the user who runs baton may use it",
		}
	case brokenOff(err):
		return &trouble{err: fmt.Errorf("control socket %s: baton ended before it answered", c.path)}
	}
	return &trouble{err: fmt.Errorf("control socket %s: %w", c.path, inner(err))}
}

// inner takes the made-up URL off an error.
func inner(err error) error {
	if u := errors.Unwrap(err); u != nil && strings.Contains(err.Error(), "http://baton") {
		return u
	}
	return err
}
