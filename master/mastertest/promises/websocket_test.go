package promises_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// wsTalker sends one message after the other and wants each back. When the server says that it restarts, it comes back.
type wsTalker struct {
	url      string
	tls      *tls.Config
	messages atomic.Int64
	restarts atomic.Int64
}

func (c *wsTalker) run(ctx context.Context) error {
	for n := 0; ctx.Err() == nil; n++ {
		if err := c.connection(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (c *wsTalker) dial(ctx context.Context) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, mastertest.Timeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls}}
	conn, _, err := websocket.Dial(ctx, c.url, &websocket.DialOptions{HTTPClient: client})
	return conn, err
}

// connection talks until the server closes. Its messages count up: an answer to each, in their order, is what it wants,
// and of the last one, which may have crossed the close, an answer or the close.
func (c *wsTalker) connection(ctx context.Context, n int) error {
	conn, err := c.dial(context.Background())
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.CloseNow()
	talk, cancel := context.WithTimeout(context.Background(), mastertest.Timeout)
	defer cancel()
	for i := 0; ctx.Err() == nil; i++ {
		message := fmt.Sprintf("%d/%d", n, i)
		werr := conn.Write(talk, websocket.MessageText, []byte(message))
		_, got, err := conn.Read(talk)
		switch {
		case err == nil && string(got) == message:
			c.messages.Add(1)
		case err == nil:
			return fmt.Errorf("got %q, want %q", got, message)
		case websocket.CloseStatus(err) == websocket.StatusServiceRestart:
			c.restarts.Add(1)
			return nil
		default:
			return fmt.Errorf("message %s: %w (%w)", message, err, werr)
		}
		sleep(time.Duration(i%5) * time.Millisecond)
	}
	return conn.Close(websocket.StatusNormalClosure, "")
}

// TestWebSocketReloads: clients, of a program behind the proxy as well, are told that the service restarts, one after
// the other, and have had an answer to each message that was received before.
func TestWebSocketReloads(t *testing.T) {
	t.Parallel()
	exclusive(t)
	p := newPair(t, "one")
	plain := mastertest.FreePort(t)
	s := unwatchedSite(t).with(`drain_timeout = "1500ms"`).withListen(plain, `process = "websocket-echo"`)
	secure := mastertest.FreePort(t)
	s = s.withListen(secure, `process = "websocket-echo"`, `transport = "tls"`,
		`tls = { cert = "cert.pem", key = "key.pem" }`)
	s.routes += fmt.Sprintf("[[program]]\nname = \"web\"\ncommand = [%q]\n[[route]]\npath = \"/ws\"\nprogram = \"web\"\n",
		mastertest.BuildProgram(t, foreign))
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Files: map[string]string{"cert.pem": p.cert, "key.pem": p.key, "version": "any"},
	})
	talkers := []*wsTalker{
		{url: "ws://" + plain}, {url: "wss://" + secure, tls: p.client()}, {url: "ws://" + s.listen[0] + "/ws"},
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, c := range talkers {
		for range 8 {
			all.Go(func() {
				if err := c.run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	}
	sum := func(count func(*wsTalker) int64) (n int64) {
		for _, c := range talkers {
			n += count(c)
		}
		return n
	}
	answered := func() int64 { return sum(func(c *wsTalker) int64 { return c.messages.Load() }) }
	mastertest.Await(t, mastertest.Text("the first answers"), func() bool { return answered() > 100 })
	pace(t, 8, 700*time.Millisecond, func(i int) {
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(2 + i)
	})
	mastertest.Await(t, mastertest.Text("every client to have come back"), func() bool {
		return !slices.ContainsFunc(talkers, func(c *wsTalker) bool { return c.restarts.Load() < 8 })
	})
	b.AwaitSettled()
	cancel()
	all.Wait()
	wantNoCut(t, b)
	t.Logf("%d messages, %d connections closed with 1012", answered(),
		sum(func(c *wsTalker) int64 { return c.restarts.Load() }))
}

// TestWebSocketStop: at a stop clients are told that the server goes away, at once.
func TestWebSocketStop(t *testing.T) {
	t.Parallel()
	address := mastertest.FreePort(t)
	b := start(t, unwatchedSite(t).with(`stop_timeout = "60s"`).withListen(address, `process = "websocket-echo"`))
	c := &wsTalker{url: "ws://" + address}
	conn, err := c.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	closed := make(chan error, 1)
	go func() {
		_, _, err := conn.Read(context.Background())
		closed <- err
	}()
	b.Stop()
	if err := <-closed; websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("closed: %v", err)
	}
}
