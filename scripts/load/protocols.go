package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// Protocols are the classes that do not speak HTTP/1.1, each for a server of its own kind. What Config says of paths
// is for those that speak HTTP.
func Protocols() []Class {
	return []Class{
		{Name: "talker", Doc: "lines on a kept connection, to a server that says everything back", Turn: talkerTurn},
		{Name: "datagram", Doc: "a datagram, to udp:host:port where everything is said back", Turn: talkerTurn},
		{Name: "websocket", Doc: "messages on a kept WebSocket at -echo-path, which come back", Turn: websocketTurn},
		{Name: "h2", Doc: "GET by the client of net/http, over HTTP/2", Turn: h2Turn},
	}
}

// talkerTurn is idle for a while, says something, and waits until it comes back.
func talkerTurn(c *Client) error {
	c.tally.requests++
	conn, err := c.Conn()
	if err != nil {
		return err
	}
	c.Wait(age(c.rand.Float64(), c.cfg.MaxIdle))
	text := fmt.Appendf(nil, "%0*x\n", 1+c.rand.IntN(1000), c.rand.Uint64())
	start := c.begin()
	c.extend(conn)
	if err := conn.Send(text); err != nil {
		return c.explain(conn, err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadAtLeast(conn.Conn, got, len(got)); err != nil {
		return c.explain(conn, classify(waiting, err))
	}
	c.answered(conn, start)
	return same(got, text)
}

// answered notes an answer that was read in another way than [Client.Answer] does.
func (c *Client) answered(conn *Conn, start time.Time) {
	conn.used++
	conn.heard = time.Now()
	c.tally.times.add(conn.heard.Sub(start))
	c.run.answers.Add(1)
}

// websocketTurn is idle for a while, then sends a message, and waits until it comes back.
func websocketTurn(c *Client) error {
	c.tally.requests++
	conn, err := c.Conn()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.cfg.Timeout+c.cfg.MaxIdle)
	defer cancel()
	if conn.ws == nil {
		if conn.ws, err = upgrade(ctx, c, conn); err != nil {
			return c.explain(conn, classify(waiting, err))
		}
	}
	c.Wait(age(c.rand.Float64(), c.cfg.MaxIdle))
	start := c.begin()
	text := fmt.Appendf(nil, "%x", c.rand.Uint64())
	got, err := exchange(ctx, conn.ws, text, c.cfg.Timeout)
	if err != nil {
		return c.explain(conn, classify(waiting, err))
	}
	c.answered(conn, start)
	return same(got, text)
}

// exchange sends a message and reads one. A close that the server explains by its own end is a [Goodbye].
func exchange(ctx context.Context, ws *websocket.Conn, text []byte, limit time.Duration) (got []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err = ws.Write(ctx, websocket.MessageText, text); err == nil || ctx.Err() == nil {
		var rerr error // what the server has said before explains a write that failed
		if _, got, rerr = ws.Read(ctx); err == nil || websocket.CloseStatus(rerr) != -1 {
			err = rerr
		}
	}
	switch websocket.CloseStatus(err) {
	case websocket.StatusServiceRestart, websocket.StatusGoingAway:
		return nil, &failure{Goodbye, err}
	default:
		return got, err
	}
}

// upgrade makes a connection a WebSocket. It may be TLS, of which the library is not told.
func upgrade(ctx context.Context, c *Client, conn *Conn) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	given := func(context.Context, string, string) (net.Conn, error) { return conn.Conn, nil }
	client := &http.Client{Transport: &http.Transport{DialContext: given}}
	//nolint:bodyclose // the body of an upgrade is the connection
	ws, resp, err := websocket.Dial(ctx, "ws://"+c.cfg.Host+c.cfg.EchoPath, &websocket.DialOptions{HTTPClient: client})
	if err != nil && resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, failf(BadStatus, "%s instead of an upgrade", resp.Status)
	}
	return ws, err
}

// h2Turn is a GET by net/http's client: it opens another connection when the server ends one, and repeats what it may.
func h2Turn(c *Client) error {
	c.tally.requests++
	if c.h2 == nil {
		c.h2 = c.newH2()
	}
	c.Wait(age(c.rand.Float64(), c.cfg.MaxIdle))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), c.cfg.Timeout)
	defer cancel()
	c.local, c.remote, c.made = "", "", time.Now()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		c.local, c.remote = i.Conn.LocalAddr().String(), i.Conn.RemoteAddr().String()
	}})
	start := c.begin()
	body, err := c.getH2(ctx)
	if err != nil {
		return classify(waiting, fmt.Errorf("%s: %w", c.local, err))
	}
	c.tally.times.add(time.Since(start))
	c.run.answers.Add(1)
	if len(bytes.TrimSpace(body)) == 0 {
		return failf(Wrong, "an empty body")
	}
	return nil
}

func (c *Client) getH2(ctx context.Context) ([]byte, error) {
	scheme := "http://"
	if c.cfg.TLS != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+c.cfg.Host+c.cfg.Path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.h2.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		return nil, failf(BadStatus, "%s by %s", resp.Status, resp.Proto)
	}
	return io.ReadAll(resp.Body)
}

// newH2 is a client of its own, whose connections nobody else uses.
func (c *Client) newH2() *http.Transport {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		c.tally.connections++
		network, address := split(c.cfg.Target)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	t := &http.Transport{DialContext: dial, Protocols: &http.Protocols{}}
	t.Protocols.SetUnencryptedHTTP2(c.cfg.TLS == nil)
	t.Protocols.SetHTTP2(c.cfg.TLS != nil)
	if c.cfg.TLS != nil {
		t.TLSClientConfig = c.cfg.TLS.Clone()
		t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			cfg := c.cfg.TLS.Clone()
			cfg.NextProtos = []string{"h2"}
			return handshakeH2(ctx, nc, cfg)
		}
	}
	return t
}

func handshakeH2(ctx context.Context, nc net.Conn, cfg *tls.Config) (net.Conn, error) {
	tc, err := handshake(ctx, nc, cfg)
	if err != nil {
		return nil, err
	}
	if p := tc.(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "h2" {
		return nil, errors.Join(failf(Wrong, "%q instead of h2", p), tc.Close())
	}
	return tc, nil
}

// split is the network and the address of a target.
func split(target string) (network, address string) {
	for _, network := range []string{"unix", "udp"} {
		if address, ok := strings.CutPrefix(target, network+":"); ok {
			return network, address
		}
	}
	return "tcp", target
}
