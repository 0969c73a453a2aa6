package load

import (
	"bytes"
	"fmt"
	"math"
	"time"
)

// Class is a kind of client.
type Class struct {
	Name string
	Doc  string

	// Turn does what such a client does, once: a request, or a dialogue of some. After an error the client's
	// connection is closed and the error is counted.
	Turn func(*Client) error

	// MinPause and MaxPause, if set, replace the run's.
	MinPause, MaxPause time.Duration
}

// Classes are all that speak HTTP/1.1. To add one is to add a line here.
func Classes() []Class {
	return []Class{
		{Name: "new", Doc: "GET, a new connection for each request", Turn: newTurn},
		{Name: "reader", Doc: "GET on a kept connection", Turn: readerTurn},
		{Name: "writer", Doc: "POST of 1 B to 64 KB on a kept connection; the body must come back", Turn: writerTurn},
		{
			Name: "poster", Doc: "the same POST, to a server that may not echo: any answer of status 200 will do",
			Turn: posterTurn,
		},
		{
			Name: "idle", Doc: "GET and POST on a kept connection with long pauses", Turn: idleTurn,
			MinPause: 200 * time.Millisecond, MaxPause: 2 * time.Second,
		},
		{
			Name: "aged", Doc: "GET and POST on a kept connection, each after up to -max-idle; the last one at the end",
			Turn: agedTurn,
		},
		{Name: "silent", Doc: "connect, say nothing for a while, then POST", Turn: silentTurn},
		{Name: "pipelined", Doc: "three requests in one write on a kept connection", Turn: pipelinedTurn},
		{Name: "dribble", Doc: "a header in two writes on a kept connection", Turn: dribbleTurn},
		{Name: "continue", Doc: "POST with Expect: 100-continue on a kept connection", Turn: continueTurn},
		{Name: "upload", Doc: "POST of 256 KB that takes a second", Turn: uploadTurn},
		{Name: "download", Doc: "GET of something large, read slowly", Turn: downloadTurn},
	}
}

// FindClass finds a class by its name.
func FindClass(name string) (Class, error) {
	for _, c := range append(Classes(), Protocols()...) {
		if c.Name == name {
			return c, nil
		}
	}
	return Class{}, fmt.Errorf("there is no class %q", name)
}

func newTurn(c *Client) error {
	_, err := c.Get(c.cfg.Path, "Connection: close\r\n")
	c.Drop()
	return err
}

func readerTurn(c *Client) error {
	_, err := c.Get(c.cfg.Path, "")
	return err
}

func writerTurn(c *Client) error { return c.Echo(1+c.rand.IntN(64<<10), 1, 0, "") }

func posterTurn(c *Client) error {
	_, _, err := c.post(c.cfg.EchoPath, 1+c.rand.IntN(64<<10), 1, 0, "")
	return err
}

func idleTurn(c *Client) error {
	if c.rand.IntN(2) == 0 {
		return readerTurn(c)
	}
	return c.Echo(1+c.rand.IntN(1<<10), 1, 0, "")
}

// agedTurn is idle first, so that the first request comes late as well. The end of the run cuts the idle time short.
func agedTurn(c *Client) error {
	if _, err := c.Conn(); err != nil {
		c.tally.requests++
		return err
	}
	c.Wait(age(c.rand.Float64(), c.cfg.MaxIdle))
	c.look()
	return idleTurn(c)
}

// age is an idle time between a millisecond and most. A chance in [0, 1) chooses its magnitude: times that are ten
// times as long are as likely.
func age(chance float64, most time.Duration) time.Duration {
	const least = time.Millisecond
	if most <= least {
		return most
	}
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), chance))
}

func silentTurn(c *Client) error {
	defer c.Drop()
	if _, err := c.Conn(); err != nil {
		c.tally.requests++
		return err
	}
	c.Wait(time.Duration(c.rand.Int64N(int64(time.Second))))
	return c.Echo(1+c.rand.IntN(1<<10), 1, 0, "Connection: close\r\n")
}

func pipelinedTurn(c *Client) error {
	body := fmt.Appendf(nil, "%x", c.rand.Uint64())
	post := append(c.head("POST", c.cfg.EchoPath, fmt.Sprintf("Content-Length: %d\r\n", len(body))), body...)
	get := c.head("GET", c.cfg.Path, "")
	start := time.Now()
	resp, err := c.expect(c.Request(0, bytes.Join([][]byte{get, post, get}, nil)))
	for i := 1; i < 3 && err == nil; i++ {
		c.tally.requests++
		if resp.close {
			return failf(Unanswered, "answer %d of 3 pipelined requests announced the end of the connection", i)
		}
		if resp, err = c.expect(c.Answer(start)); i == 1 && err == nil {
			err = same(resp.Body, body)
		}
	}
	return err
}

func dribbleTurn(c *Client) error {
	head := c.head("GET", c.cfg.Path, "")
	cut := 1 + c.rand.IntN(len(head)-1)
	_, err := c.expect(c.Request(time.Duration(c.rand.Int64N(int64(50*time.Millisecond))), head[:cut], head[cut:]))
	return err
}

func continueTurn(c *Client) error {
	c.tally.requests++
	conn, err := c.Conn()
	if err != nil {
		return err
	}
	start := c.begin()
	body := bytes.Repeat([]byte{byte(c.rand.Uint32())}, 1+c.rand.IntN(16<<10))
	c.extend(conn)
	if err := conn.Send(c.head("POST", c.cfg.EchoPath,
		fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue\r\n", len(body)))); err != nil {
		return c.explain(conn, err)
	}
	resp, err := conn.receiveAny()
	if err != nil {
		return c.explain(conn, err)
	}
	if resp.Status != 100 {
		return failf(BadStatus, "%d instead of 100 Continue", resp.Status)
	}
	if err := conn.Send(body); err != nil {
		return c.explain(conn, err)
	}
	if resp, err = c.expect(c.Answer(start)); err != nil {
		return err
	}
	return same(resp.Body, body)
}

func uploadTurn(c *Client) error { return c.Echo(256<<10, 10, 100*time.Millisecond, "") }

func downloadTurn(c *Client) error {
	conn, err := c.Conn()
	if err != nil {
		c.tally.requests++
		return err
	}
	conn.slow = func() {
		c.extend(conn)
		c.Wait(c.cfg.ReadPause)
	}
	resp, err := c.Get(c.cfg.LargePath, "")
	conn.slow = nil
	if err != nil || c.cfg.Large == nil {
		return err
	}
	return same(resp.Body, c.cfg.Large)
}
