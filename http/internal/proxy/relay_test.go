package proxy

import (
	"context"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"baton/http/httpworker"
	"baton/http/websocket"
	"baton/worker/workertest"
)

// TestWebSocketDrain: a WebSocket to the upstream lives on in a drain, and is closed with 1012 in its last third.
func TestWebSocketDrain(t *testing.T) {
	t.Parallel()
	up := httptest.NewServer(websocket.Echo())
	t.Cleanup(up.Close)
	addr := up.Listener.Addr().String()
	front := &Proxy{Upstream: &Upstream{
		Dial:        func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) },
		IdleTimeout: time.Second,
	}, Relay: websocket.Relay}
	t.Cleanup(front.Close)
	p := workertest.Start(t, httpworker.Handler(front), workertest.Options{})
	var clients []*ws.Conn
	for range 5 {
		c, resp, err := ws.Dial(t.Context(), "ws://"+p.Addr(), nil)
		if err != nil {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		clients = append(clients, c)
	}
	say := func(c *ws.Conn, text string) error {
		if err := c.Write(t.Context(), ws.MessageText, []byte(text)); err != nil {
			return err
		}
		_, got, err := c.Read(t.Context())
		if err == nil && string(got) != text {
			t.Errorf("%q came back as %q", text, got)
		}
		return err
	}
	for _, c := range clients {
		if err := say(c, "before"); err != nil {
			t.Fatal(err)
		}
	}
	p.Drain(6 * time.Second)
	for _, c := range clients {
		if err := say(c, "in the drain"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		if _, _, err := c.Read(t.Context()); ws.CloseStatus(err) != ws.StatusServiceRestart {
			t.Errorf("%v, want 1012", err)
		}
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if n := p.Counters.CutConns.Load(); n != 0 {
		t.Errorf("%d connections were cut", n)
	}
}
