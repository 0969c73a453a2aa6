package promises_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"baton/master/mastertest"
)

// heldRequest is a request in progress that does not end by itself: the server waits for the last byte of its body.
type heldRequest struct {
	tb   testing.TB
	conn net.Conn
	body io.ReadCloser
}

// hold begins one, and returns when a worker has it.
func hold(tb testing.TB, address string) heldRequest {
	tb.Helper()
	c := connect(tb, address, 1)[0]
	if _, err := io.WriteString(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na"); err != nil {
		tb.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(mastertest.Timeout))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		tb.Fatal(err)
	}
	h := heldRequest{tb, c, resp.Body}
	if err := h.read("a"); err != nil {
		tb.Fatal(err)
	}
	return h
}

func (h heldRequest) read(want string) error {
	_ = h.conn.SetReadDeadline(time.Now().Add(mastertest.Timeout))
	b := make([]byte, len(want))
	if _, err := io.ReadFull(h.body, b); err != nil {
		return err
	}
	if string(b) != want {
		return fmt.Errorf("got %q, want %q", b, want)
	}
	return nil
}

// wantFinished ends the request as its client would.
func (h heldRequest) wantFinished() {
	h.tb.Helper()
	_, err := io.WriteString(h.conn, "b")
	if err = errors.Join(err, h.read("b")); err != nil {
		h.tb.Errorf("a request that nobody had a reason to cut: %v", err)
	}
	h.conn.Close()
}

// wantCut waits until the server has closed the connection.
func (h heldRequest) wantCut() {
	h.tb.Helper()
	var timeout net.Error
	if err := h.read("b"); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		h.tb.Errorf("the request was to be cut: %v", err)
	}
	h.conn.Close()
}

// inNewest opens a connection in the running generation, where there is no other. A worker of the last one that has
// just been told to drain may take it; then it is another's turn.
func inNewest[T any](b *mastertest.Baton, open func() T, end func(T)) T {
	for {
		it, n := open(), int64(0)
		st := b.Status()
		for _, w := range st.Workers {
			if w.Generation == st.Generation {
				n += w.Connections
			}
		}
		if n > 0 {
			return it
		}
		end(it)
	}
}

// TestMaxGenerations: one client after the other holds a request open, each in another generation. However many reloads
// there are, no more than max_generations drain, but for a moment; the oldest is cut first, and each cut is counted and
// logged.
func TestMaxGenerations(t *testing.T) {
	t.Parallel()
	const reloads, limit = 50, 3
	s := unwatchedSite(t).with(fmt.Sprintf("max_generations = %d", limit), `drain_timeout = "1h"`)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(),
		Binary: mastertest.Build(t, mastertest.BuildOptions{NoRace: true}),
	})
	b.Reload()
	before, memory := takeSnapshot(t, b), rss(t, b)
	var requests []heldRequest
	most, processes := 0, 0
	for range reloads {
		requests = append(requests, inNewest(b, func() heldRequest { return hold(t, s.listen[0]) },
			heldRequest.wantFinished))
		b.Reload()
		b.AwaitStatus("the oldest to go", func(st mastertest.Status) bool {
			generations, tree := len(drainingGens(st)), len(b.Tree())
			if generations > 2*limit || tree > 2+2*(2*limit+1) { // supervisor, master, two workers of each generation
				return false
			}
			most, processes = max(most, generations), max(processes, tree)
			return true
		})
	}
	newest := reloads + 2
	st := b.AwaitStatus("no more than max_generations to drain", func(st mastertest.Status) bool {
		return st.State == "serving" && len(drainingGens(st)) <= limit
	})
	if got := drainingGens(st); !slices.Equal(got, []int{newest - 3, newest - 2, newest - 1}) {
		t.Errorf("generations %v drain, want the %d before %d", got, limit, newest)
	}
	for _, r := range requests[:reloads-limit] {
		r.wantCut()
	}
	for _, r := range requests[reloads-limit:] {
		r.wantFinished()
	}
	b.AwaitStatus("the cuts to be counted", func(st mastertest.Status) bool {
		// One that does not end within a second behind its deadline is killed, and says nothing.
		silent := strings.Count(b.Log(), "worker exited without reporting")
		return st.CutRequests == int64(reloads-limit-silent) && st.CutConnections == st.CutRequests
	})
	for _, what := range []string{"too many generations drain, cutting the oldest", "worker: drain deadline cut"} {
		b.AwaitLog(what, 0, func(text string) bool {
			// a process that ends does not wait long for its last line
			return strings.Count(text, what) > (reloads-limit)/2
		})
	}
	after, grown := takeSnapshot(t, b), rss(t, b)
	if !maps.Equal(before.supervisorFDs, after.supervisorFDs) || !maps.Equal(before.masterFDs, after.masterFDs) ||
		len(before.tree) != len(after.tree) {
		t.Errorf("%v\nthen\n%v", before, after)
	}
	for who := range memory {
		if grown[who] > memory[who]+8<<20 {
			t.Errorf("memory of the %s: %d KB, then %d KB", who, memory[who]>>10, grown[who]>>10)
		}
	}
	t.Logf("at most %d generations drained after a reload, in %d processes", most, processes)
}

// drainingGens are the older generations that are still there, in order.
func drainingGens(st mastertest.Status) []int {
	var gens []int
	for _, w := range st.Workers {
		if w.Generation < st.Generation && !slices.Contains(gens, w.Generation) {
			gens = append(gens, w.Generation)
		}
	}
	slices.Sort(gens)
	return gens
}

// TestDrainTimeoutCuts: what takes longer than drain_timeout is cut, counted and logged, and whoever waits for the
// reload is told.
func TestDrainTimeoutCuts(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(`drain_timeout = "1s"`)
	b := start(t, s)
	requests := []heldRequest{hold(t, s.listen[0]), hold(t, s.listen[0])}
	out := b.Reload("--wait").Stdout
	for _, r := range requests {
		r.wantCut()
	}
	if !strings.Contains(out, "2 requests") {
		t.Errorf("baton reload --wait: %q", out)
	}
	if st := b.AwaitSettled(); st.CutRequests != 2 || st.CutConnections != 2 || st.Crashes != 0 {
		t.Errorf("%+v", st)
	}
	b.AwaitLog("the cut", 0, func(text string) bool { return strings.Contains(text, "drain deadline cut") })
}

// TestCutGenerationSaysGoodbye: WebSockets of a generation that is one too many are closed with 1012, not cut.
func TestCutGenerationSaysGoodbye(t *testing.T) {
	t.Parallel()
	address := mastertest.FreePort(t)
	s := unwatchedSite(t).with("max_generations = 1", `drain_timeout = "1h"`).withListen(address,
		`process = "websocket-echo"`)
	b := start(t, s)
	c := &wsTalker{url: "ws://" + address}
	dial := func() *websocket.Conn {
		conn, err := c.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.CloseNow() })
		return conn
	}
	first := dial()
	b.Reload()
	second := inNewest(b, dial, func(conn *websocket.Conn) { conn.CloseNow() })
	b.Reload()
	ctx, cancel := context.WithTimeout(t.Context(), mastertest.Timeout)
	defer cancel()
	if _, _, err := first.Read(ctx); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		t.Errorf("closed: %v", err)
	}
	st := b.AwaitStatus("one generation to drain",
		func(st mastertest.Status) bool { return len(drainingGens(st)) == 1 })
	if st.CutConnections+st.CutRequests != 0 || !slices.Equal(drainingGens(st), []int{2}) {
		t.Errorf("%+v", st)
	}
	second.CloseNow()
}
