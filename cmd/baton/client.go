package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"baton/master"
)

// client asks the master behind a control socket. Masters come and go at every reload: a connection that breaks, and a
// 503, mean that another one is the master now, and that it is to be asked again.
type client struct {
	path string
	http *http.Client

	patience time.Duration // how long there may be nobody at the socket while an answer is outstanding, or no master
	pause    time.Duration // before the second try; later ones wait longer, up to maxPause
}

const maxPause = time.Second

func newClient(path string) *client {
	return &client{
		path: path, patience: 10 * time.Second, pause: 20 * time.Millisecond,
		http: &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true, // the next request may be for another master
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialUnix(ctx, path)
			},
		}},
	}
}

// refusal is an answer of the master that is not the one that was hoped for.
type refusal struct {
	status int
	text   string
	absent bool // there is no master
}

func (r *refusal) Error() string { return r.text }

// ExitCode: what the master calls a bad request, the user has typed; a conflict is that it could not do what it was asked.
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
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &refusal{resp.StatusCode, refusalText(resp, body), after > 0}
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

// ask asks until there is an answer. Nobody at the socket is an answer at the first try; later it must last for
// c.patience, as a master that crashed is about to be started again.
func (c *client) ask(ctx context.Context, method, target string, v any) error {
	return c.retry(ctx, false, func() error { return c.once(ctx, method, target, v) })
}

// askAgain is ask after there has been an answer to something else.
func (c *client) askAgain(ctx context.Context, method, target string, v any) error {
	return c.retry(ctx, true, func() error { return c.once(ctx, method, target, v) })
}

func (c *client) retry(ctx context.Context, met bool, once func() error) error {
	pause := c.pause
	var alone time.Time // since when nobody is there
	for {
		err := once()
		switch {
		case err == nil, ctx.Err() != nil:
			return c.explain(err)
		case nobody(err), absent(err):
			if alone.IsZero() {
				alone = time.Now()
			}
			if !met && nobody(err) || time.Since(alone) >= c.patience {
				return c.explain(err)
			}
		case !replaced(err):
			return c.explain(err)
		default:
			met, alone = true, time.Time{}
		}
		if wait(ctx, pause) != nil {
			return c.explain(err)
		}
		pause = min(2*pause, maxPause)
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

// absent is true if the keeper answers, for there is no master.
func absent(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.absent
}

// replaced is true if the master went away before it could answer.
func replaced(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.status == http.StatusServiceUnavailable
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.EAGAIN) // EAGAIN: the socket's queue is full
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
	case errors.Is(err, context.DeadlineExceeded):
		return &trouble{err: fmt.Errorf("control socket %s: no answer in time", c.path)}
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

// statusPatience is how long a status may take: a master that is stopped or stuck is to be seen as such.
const statusPatience = 10 * time.Second

func (c *client) status(ctx context.Context) (master.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	var s master.Status
	err := c.ask(ctx, http.MethodGet, "/status", &s)
	return s, err
}
