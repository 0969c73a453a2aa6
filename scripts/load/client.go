package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// Client is one client of a class. All its methods are called by its own goroutine.
type Client struct {
	cfg           *Config
	class         Class
	ctx           context.Context // ends when the run ends; a turn is finished even then
	rand          *rand.Rand
	conn          *Conn
	h2            *http.Transport // of a client of that class
	local, remote string          // the ends of the last connection
	made          time.Time       // when it was begun
	began         time.Time       // when the request was, or the connection
	tally         *tally
	run           *Runner
}

// Rand is the client's own source of chance.
func (c *Client) Rand() *rand.Rand { return c.rand }

// Config is the run's.
func (c *Client) Config() *Config { return c.cfg }

// Conn returns the kept connection, or a new one if there is none.
func (c *Client) Conn() (*Conn, error) {
	if c.conn != nil {
		return c.conn, nil
	}
	conn, took, err := c.dial(context.WithoutCancel(c.ctx))
	if err != nil {
		return nil, err
	}
	c.conn = conn
	c.tally.connections++
	if took > c.cfg.LateAfter && conn.resent {
		c.fail(failf(Late, "connected after %v", took))
	}
	return conn, nil
}

// fail counts a failure of the last connection.
func (c *Client) fail(err error) {
	c.tally.fail(err, Failure{Local: c.local, Remote: c.remote, Made: c.made, Began: c.began}, c.cfg.Excuse)
}

// Drop closes the kept connection.
func (c *Client) Drop() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// end closes all that the client has.
func (c *Client) end() {
	c.Drop()
	if c.h2 != nil {
		c.h2.CloseIdleConnections()
	}
}

// Wait lets time pass, less when the run ends.
func (c *Client) Wait(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.ctx.Done():
	}
}

// Request sends a request in the given pieces, with pauses between them, and returns the answer. It counts the request
// and measures its time.
func (c *Client) Request(pause time.Duration, pieces ...[]byte) (*Response, error) {
	c.tally.requests++
	conn, err := c.Conn()
	if err != nil {
		return nil, err
	}
	start := c.begin()
	for i, piece := range pieces {
		if i > 0 {
			c.Wait(pause)
		}
		c.extend(conn)
		if err := conn.Send(piece); err != nil {
			return nil, c.explain(conn, err)
		}
	}
	return c.Answer(start)
}

// begin notes when a request begins.
func (c *Client) begin() time.Time {
	c.began = time.Now()
	return c.began
}

// Answer reads the answer of a request that was sent at some time. When it announces the end of the connection, the
// connection is closed.
func (c *Client) Answer(start time.Time) (*Response, error) {
	conn, err := c.Conn()
	if err != nil {
		return nil, err
	}
	c.extend(conn)
	resp, err := conn.Receive()
	if err != nil {
		return nil, c.explain(conn, err)
	}
	resp.Class = c.class.Name
	if resp.close {
		c.Drop()
	}
	if resp.Status >= 500 {
		return nil, failf(BadStatus, "%d %.80q", resp.Status, resp.Body)
	}
	resp.Took = time.Since(start)
	c.tally.times.add(resp.Took)
	c.run.answers.Add(1)
	c.note(resp)
	return resp, nil
}

// Get is one GET of a path, which answers 200.
func (c *Client) Get(path, header string) (*Response, error) {
	return c.expect(c.Request(0, c.head("GET", path, header)))
}

// Echo is one POST of random bytes of some size, in some pieces. The answer must be the same bytes.
func (c *Client) Echo(size, pieces int, pause time.Duration, header string) error {
	resp, body, err := c.post(c.cfg.EchoPath, size, pieces, pause, header)
	if err != nil {
		return err
	}
	return same(resp.Body, body)
}

// post is one POST of random bytes, which it returns, and its answer.
func (c *Client) post(
	path string, size, pieces int, pause time.Duration, header string,
) (resp *Response, body []byte, err error) {
	body = make([]byte, size)
	for i := range body {
		body[i] = byte(c.rand.Uint32())
	}
	head := c.head("POST", path, fmt.Sprintf("Content-Length: %d\r\n%s", size, header))
	parts := [][]byte{append(head, body[:size/pieces]...)}
	for i := 1; i < pieces; i++ {
		parts = append(parts, body[i*size/pieces:(i+1)*size/pieces])
	}
	resp, err = c.expect(c.Request(pause, parts...))
	return resp, body, err
}

// head is a request's header, with its end.
func (c *Client) head(method, path, header string) []byte {
	return []byte(method + " " + path + " HTTP/1.1\r\nHost: " + c.cfg.Host + "\r\n" + header + "\r\n")
}

func (c *Client) expect(resp *Response, err error) (*Response, error) {
	if err == nil && resp.Status != 200 {
		return nil, failf(BadStatus, "%d %.80q", resp.Status, resp.Body)
	}
	return resp, err
}

// pause is how long the client rests between two turns.
func (c *Client) pause() time.Duration {
	least, most := c.cfg.MinPause, c.cfg.MaxPause
	if c.class.MaxPause > 0 {
		least, most = c.class.MinPause, c.class.MaxPause
	}
	return least + time.Duration(c.rand.Int64N(int64(max(0, most-least))+1))
}

func same(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	return failf(Wrong, "body of %d bytes, want %d, differs at %d", len(got), len(want), at)
}

// extend gives the next step its time.
func (c *Client) extend(conn *Conn) { _ = conn.SetDeadline(time.Now().Add(c.cfg.Timeout)) }

// look drops the kept connection if the run's clients look and the server has closed it.
func (c *Client) look() {
	if c.cfg.Look && c.conn != nil && Closed(c.conn.Conn) {
		c.Drop()
	}
}

// explain adds what helps to find the cause.
func (c *Client) explain(conn *Conn, err error) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	age, silent := time.Since(conn.made).Round(time.Millisecond), time.Since(conn.heard).Round(time.Millisecond)
	return failf(f.kind, "%s after %d answers, %v old, nothing heard for %v: %w", conn.LocalAddr(), conn.used, age,
		silent, f.err)
}

// note counts who answered.
func (c *Client) note(resp *Response) {
	if c.cfg.OnResponse != nil {
		c.cfg.OnResponse(resp)
	}
	var who struct {
		Generation int    `json:"generation"`
		Version    string `json:"version"`
	}
	if resp.Header["content-type"] == "application/json" && json.Unmarshal(resp.Body, &who) == nil &&
		who.Generation > 0 {
		c.tally.generations[who.Generation]++
		c.tally.versions[who.Version]++
	}
}

// takeTurns goes on until the run ends.
func (c *Client) takeTurns() {
	defer c.end()
	for c.ctx.Err() == nil {
		c.look()
		if err := c.class.Turn(c); err != nil {
			c.fail(err)
			c.Drop()
		}
		c.Wait(c.pause())
	}
}
