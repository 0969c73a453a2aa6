package httpworker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/worker"
	"baton/worker/workertest"
)

// accepted makes sure that all connections that were dialled before are accepted: the queue is first in, first out.
func accepted(t *testing.T, p *workertest.Process) {
	t.Helper()
	c := dial(t, p)
	c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	c.want(200, "/")
}

func TestDrainIdleConnectionGetsItsNextAnswer(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	c.send(get("/1"))
	c.want(200, "/1")
	p.Drain(time.Hour)
	body := strings.Repeat("x", 1<<20)
	c.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	c.wantLast(200, "/"+body)
	_ = c.Close()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := p.Counters.CutConns.Load() + p.Counters.Conns.Load() + p.Counters.Active.Load(); n != 0 {
		t.Errorf("counters are not zero: %d", n)
	}
}

func TestDrainSilentConnectionIsServed(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	accepted(t, p)
	p.Drain(time.Hour)
	c.send(get("/late"))
	c.wantLast(200, "/late")
}

func TestDrainIdleConnectionClosesAtItsIdleTimeout(t *testing.T) {
	const idle = 100 * time.Millisecond
	p := start(t, Settings{IdleTimeout: idle})
	c := dial(t, p)
	c.send(get("/"))
	begin := time.Now()
	c.want(200, "/")
	p.Drain(time.Hour)
	c.wantEOF()
	if d := time.Since(begin); d < idle {
		t.Errorf("closed after %v, want %v", d, idle)
	}
	if err := p.Wait(); err != nil || p.Counters.CutConns.Load() != 0 {
		t.Errorf("Serve: %v, cut %d", err, p.Counters.CutConns.Load())
	}
}

func TestDrainFinishesRequestInFlight(t *testing.T) {
	g := newGate(t, 0)
	c := dialTo(t, g)
	c.send(get("/1"))
	<-g.entered
	g.Drain(time.Hour)
	g.leave <- struct{}{}
	if c.want(200, "/1").Close {
		t.Error("a response that had begun before the drain says Connection: close")
	}
	g.leave <- struct{}{}
	c.send(get("/2"))
	c.wantLast(200, "/2")
}

func TestDrainFinishesUpload(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	accepted(t, p)
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n")
	p.Drain(time.Hour)
	c.send("abcd")
	c.want(200, "/abcd")
}

// A client that has sent thousands of requests at once is answered for a while, and the last answer arrives.
func TestDrainPipelinedClientReadsItsAnswer(t *testing.T) {
	p := start(t, Settings{})
	c := dial(t, p)
	accepted(t, p)
	p.Drain(time.Hour)
	c.send(get("/1") + strings.Repeat(get("/2"), 5000))
	if c.want(200, "/1").Close {
		t.Error("the second request is not answered")
	}
	for n := 2; !c.want(200, "/2").Close; n++ {
		if n > maxDeferred {
			t.Fatal("no answer is the last")
		}
	}
	c.wantEOF()
}

func TestDrainEndingListenerServesItsQueue(t *testing.T) {
	p := start(t, Settings{})
	accepted(t, p)
	var all []*client
	for range 20 {
		all = append(all, dial(t, p))
	}
	p.DrainEnding(time.Hour)
	for _, c := range all {
		c.send(get("/q"))
		c.want(200, "/q")
		_ = c.Close()
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestStopClosesIdleConnectionsAfterASecond(t *testing.T) {
	p := start(t, Settings{})
	idle, silent := dial(t, p), dial(t, p)
	idle.send(get("/"))
	idle.want(200, "/")
	accepted(t, p)
	p.Drain(time.Hour)
	begin := time.Now()
	p.Stop(time.Hour)
	idle.wantEOF()
	silent.wantEOF()
	if d := time.Since(begin); d < time.Second {
		t.Errorf("closed after %v", d)
	}
	if err := p.Wait(); err != nil || p.Counters.CutConns.Load() != 2 {
		t.Errorf("Serve: %v, cut %d, want 2", err, p.Counters.CutConns.Load())
	}
}

func TestStopServesWhatComesInItsSecond(t *testing.T) {
	g := newGate(t, 0)
	busy, idle := dialTo(t, g), dialTo(t, g)
	busy.send(get("/busy"))
	<-g.entered
	g.Stop(time.Hour)
	idle.send(get("/idle"))
	<-g.entered
	<-time.After(time.Second + 50*time.Millisecond)
	g.leave <- struct{}{}
	g.leave <- struct{}{}
	busy.want(200, "/busy")
	idle.want(200, "/idle")
}

func TestCutCounts(t *testing.T) {
	g := newGate(t, 0)
	idle, partial, busy := dialTo(t, g), dialTo(t, g), dialTo(t, g)
	partial.send(get("/1") + "GET /0")
	<-g.entered
	g.leave <- struct{}{}
	partial.want(200, "/1")
	busy.send(get("/1"))
	<-g.entered
	g.Drain(50 * time.Millisecond)
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	c := g.Counters
	if c.CutConns.Load() != 3 || c.CutRequests.Load() != 2 {
		t.Errorf("cut %d requests of %d connections, want 2 of 3", c.CutRequests.Load(), c.CutConns.Load())
	}
	if c.Conns.Load() != 0 || c.Active.Load() != 0 {
		t.Errorf("still %d open, %d active", c.Conns.Load(), c.Active.Load())
	}
	idle.wantClosed()
	busy.wantClosed()
}

func TestHijackedConnectionHoldsTheDrain(t *testing.T) {
	hijacked := make(chan net.Conn, 1)
	p := start(t, Settings{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		hijacked <- nc
	})})
	c := dial(t, p)
	c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
	nc := <-hijacked
	p.Drain(time.Hour)
	c.send("more")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(nc, buf); err != nil || string(buf) != "more" {
		t.Fatalf("read %q, %v", buf, err)
	}
	if !p.Serving() || p.Counters.Conns.Load() != 1 || p.Counters.Active.Load() != 0 {
		t.Error("the hijacked connection does not count")
	}
	_ = nc.Close()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

// Generation after generation serves one socket, and clients that honour Connection: close lose nothing.
func TestReloadsUnderLoad(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	next := func() *workertest.Process {
		w := Handler(http.HandlerFunc(echo))
		return workertest.Start(t, w, workertest.Options{Listeners: []net.Listener{ln}})
	}
	old := next()
	var (
		requests atomic.Int64
		stop     = make(chan struct{})
		clients  sync.WaitGroup
	)
	for i := range 8 {
		clients.Go(func() {
			h := hammer{addr: ln.Addr().String(), dribble: i%2 == 1}
			if err := h.until(stop, &requests); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	const reloads = 20
	for range reloads {
		await(t, &requests, 200)
		p := next()
		old.Drain(time.Hour)
		await(t, &requests, 200)
		if err := old.Wait(); err != nil {
			t.Error(err)
		}
		if n := old.Counters.CutConns.Load() + old.Counters.CutRequests.Load(); n != 0 {
			t.Errorf("%d cut", n)
		}
		old = p
	}
	close(stop)
	clients.Wait()
}

// await waits for n requests more.
func await(t *testing.T, requests *atomic.Int64, n int64) {
	want := requests.Load() + n
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for requests.Load() < want && !t.Failed() {
		<-tick.C
	}
}

// hammer is a client that never retries.
type hammer struct {
	addr    string
	dribble bool // send the header in two writes
	n       int
	c       net.Conn
	r       *bufio.Reader
}

func (h *hammer) close() {
	if h.c != nil {
		_ = h.c.Close()
		h.c = nil
	}
}

// until sends requests until stop is closed, and fails with the first that does.
func (h *hammer) until(stop <-chan struct{}, requests *atomic.Int64) error {
	defer h.close()
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := h.request(); err != nil {
			return err
		}
		requests.Add(1)
	}
}

func (h *hammer) request() error {
	if h.c == nil {
		c, err := net.Dial("tcp", h.addr)
		if err != nil {
			return err
		}
		h.c, h.r = c, bufio.NewReader(c)
	}
	h.n++
	body := bytes.Repeat([]byte{byte('a' + h.n%26)}, h.n%5000)
	req := fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", h.n, len(body), body)
	if err := h.write(req); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	resp, err := http.ReadResponse(h.r, nil)
	if err != nil {
		return fmt.Errorf("response: %w", err)
	}
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	if want := fmt.Sprintf("/%d%s", h.n, body); string(got) != want {
		return errors.New("wrong body")
	}
	if resp.Close {
		h.close()
	}
	return nil
}

func (h *hammer) write(req string) error {
	if h.dribble {
		cut := h.n % 30
		if _, err := io.WriteString(h.c, req[:cut]); err != nil {
			return err
		}
		req = req[cut:]
	}
	_, err := io.WriteString(h.c, req)
	return err
}

func TestServeBeginsAtGo(t *testing.T) {
	p := workertest.Prepare(t, Handler(http.HandlerFunc(echo)), workertest.Options{})
	p.AwaitReady()
	c := dial(t, p)
	c.send(get("/1"))
	if p.Counters.Conns.Load() != 0 {
		t.Error("accepted before GO")
	}
	p.Go()
	c.want(200, "/1")
}

func TestConfigure(t *testing.T) {
	w := Handler(nil)
	w.Configure = func(env *worker.Env, s *Settings) error {
		payload := string(env.Payload())
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, payload) })
		return nil
	}
	p := workertest.Start(t, w, workertest.Options{Payload: []byte("configured")})
	c := dial(t, p)
	c.send(get("/"))
	c.want(200, "configured")
}

func TestConfigureFails(t *testing.T) {
	broken := errors.New("broken")
	w := &Worker{Configure: func(*worker.Env, *Settings) error { return broken }}
	p := workertest.Prepare(t, w, workertest.Options{})
	if err := p.Wait(); !errors.Is(err, broken) {
		t.Errorf("Serve: %v", err)
	}
}
