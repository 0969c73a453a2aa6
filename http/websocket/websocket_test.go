package websocket

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"baton/http/httpworker"
	"baton/worker/workertest"
)

const (
	never = 20 * time.Second
	// drain is long enough for its last sixth, in which nothing more is begun, to be ample on a machine that does much
	// else.
	drain = 6 * time.Second
)

func start(t *testing.T, h http.Handler) *workertest.Process {
	t.Helper()
	w := &httpworker.Worker{Settings: httpworker.Settings{Handlers: map[string]http.Handler{"websocket-echo": h}}}
	return workertest.Start(t, w, workertest.Options{Process: "websocket-echo"})
}

func dial(t *testing.T, p *workertest.Process) *ws.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), never)
	defer cancel()
	c, resp, err := ws.Dial(ctx, "ws://"+p.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp
	t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(maxMessage)
	return c
}

func send(t *testing.T, c *ws.Conn, data []byte) {
	t.Helper()
	if err := c.Write(t.Context(), ws.MessageBinary, data); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, c *ws.Conn, data []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), never)
	defer cancel()
	_, got, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes, want %d", len(got), len(data))
	}
}

func wantClose(t *testing.T, c *ws.Conn, code ws.StatusCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), never)
	defer cancel()
	_, _, err := c.Read(ctx)
	if got := ws.CloseStatus(err); got != code {
		t.Errorf("closed with %d (%v), want %d", got, err, code)
	}
}

func TestEcho(t *testing.T) {
	p := start(t, Echo())
	c := dial(t, p)
	for _, size := range []int{0, 1, 125, 126, 4096, 70_000, maxMessage} {
		data := bytes.Repeat([]byte{byte(size)}, size)
		send(t, c, data)
		want(t, c, data)
	}
	send(t, c, make([]byte, maxMessage+1))
	wantClose(t, c, ws.StatusMessageTooBig)

	resp, err := http.Get("http://" + p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("a plain request: %s", resp.Status)
	}
}

// TestDrain: connections live on for two thirds of the drain, and are closed one after the other behind.
func TestDrain(t *testing.T) {
	t.Parallel()
	p := start(t, Echo())
	var clients []*ws.Conn
	for range 10 {
		clients = append(clients, dial(t, p))
	}
	begun := time.Now()
	p.Drain(drain)
	for _, c := range clients {
		send(t, c, []byte("still here?"))
		want(t, c, []byte("still here?"))
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var first, last time.Duration
	for _, c := range clients {
		all.Go(func() {
			wantClose(t, c, ws.StatusServiceRestart)
			mu.Lock()
			defer mu.Unlock()
			took := time.Since(begun)
			if first == 0 || took < first {
				first = took
			}
			last = max(last, took)
		})
	}
	all.Wait()
	if first < drain/2 || last-first < 10*time.Millisecond {
		t.Errorf("closed from %v to %v of %v", first, last, drain)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if n := p.Counters.CutConns.Load(); n != 0 {
		t.Errorf("%d connections were cut", n)
	}
}

// TestDrainCutShort: when the deadline of a drain that goes on moves closer, there still is a goodbye.
func TestDrainCutShort(t *testing.T) {
	t.Parallel()
	p := start(t, Echo())
	var clients []*ws.Conn
	for range 10 {
		clients = append(clients, dial(t, p))
	}
	p.Drain(never)
	for _, c := range clients {
		send(t, c, []byte("still here?"))
		want(t, c, []byte("still here?"))
	}
	p.Drain(drain)
	for _, c := range clients {
		wantClose(t, c, ws.StatusServiceRestart)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if n := p.Counters.CutConns.Load(); n != 0 {
		t.Errorf("%d connections were cut", n)
	}
}

func TestStop(t *testing.T) {
	p := start(t, Echo())
	c := dial(t, p)
	send(t, c, []byte("a"))
	want(t, c, []byte("a"))
	p.Stop(time.Hour)
	wantClose(t, c, ws.StatusGoingAway)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// TestStopWhileDraining: a stop brings the close forward.
func TestStopWhileDraining(t *testing.T) {
	p := start(t, Echo())
	c := dial(t, p)
	p.Drain(time.Hour)
	p.Stop(time.Hour)
	wantClose(t, c, ws.StatusGoingAway)
}

// TestMessageInProgress: the one that is being answered when the close is due is answered, and one that was received
// behind it as well.
func TestMessageInProgress(t *testing.T) {
	entered, leave := make(chan bool, 10), make(chan bool, 10)
	p := start(t, Handler(func(ctx context.Context, c *Conn, m Message) error {
		entered <- true
		<-leave
		return c.Send(ctx, m)
	}))
	c := dial(t, p)
	send(t, c, []byte("first"))
	<-entered
	send(t, c, []byte("second"))
	p.Stop(never)
	time.AfterFunc(stopSpread+200*time.Millisecond, func() { leave <- true; leave <- true })
	want(t, c, []byte("first"))
	want(t, c, []byte("second"))
	wantClose(t, c, ws.StatusGoingAway)
}

// TestEveryMessageIsAnswered: a client that sends one message after the other gets for each an answer or the close,
// and an answer for all that were received before the close was sent.
func TestEveryMessageIsAnswered(t *testing.T) {
	var received atomic.Int64
	p := start(t, Handler(func(ctx context.Context, c *Conn, m Message) error {
		err := c.Send(ctx, m)
		if err != nil {
			t.Errorf("a message that was received whole was not answered: %v", err)
		}
		received.Add(1)
		return err
	}))
	const clients = 20
	var all sync.WaitGroup
	for range clients {
		c := dial(t, p)
		all.Go(func() {
			for i := byte(0); ; i++ {
				if err := c.Write(t.Context(), ws.MessageText, []byte{'a' + i%26}); err != nil {
					break // the close has been read already, maybe
				}
				_, data, err := c.Read(t.Context())
				if err != nil {
					if got := ws.CloseStatus(err); got != ws.StatusGoingAway {
						t.Errorf("closed with %v", err)
					}
					return
				}
				if len(data) != 1 || data[0] != 'a'+i%26 {
					t.Errorf("got %q", data)
				}
			}
			wantClose(t, c, ws.StatusGoingAway)
		})
	}
	p.Stop(never)
	all.Wait()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	if n := p.Counters.CutConns.Load(); n != 0 {
		t.Errorf("%d connections were cut", n)
	}
	t.Logf("%d messages", received.Load())
}
