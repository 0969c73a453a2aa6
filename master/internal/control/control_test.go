package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is long enough for whatever a test waits for: it ends tests that fail.
const patience = 20 * time.Second

// fake is a backend that notes what it is asked, and answers with err if there is one.
type fake struct {
	asked   chan string
	err     error
	await   error         // of Await
	entered chan struct{} // if not nil: Await says that it has begun, and waits
	release chan struct{}
}

func (f *fake) note(words ...string) error {
	f.asked <- strings.Join(words, " ")
	return f.err
}

func (f *fake) Version(context.Context) (any, error) {
	return map[string]int{"supervisor_pid": 4711}, f.err
}

func (f *fake) Status(context.Context) (any, error) {
	return map[string]int{"generation": 3}, f.note("status")
}

func (f *fake) Reload(context.Context) (int64, error) { return 7, f.note("reload") }

func (f *fake) Await(_ context.Context, id int64, drained bool) (any, error) {
	if f.entered != nil {
		f.entered <- struct{}{}
		<-f.release
	}
	return map[string]any{"id": id, "drained": drained}, f.await
}

func (f *fake) Resize(_ context.Context, n int) (any, error) {
	return map[string]int{"workers": n}, f.note("resize", strings.Repeat("+", n))
}

func (f *fake) Stop(_ context.Context, quit, now bool) (any, error) {
	return map[string]int{"supervisor_pid": 4711},
		f.note("stop", map[bool]string{true: "quit"}[quit], map[bool]string{true: "now"}[now])
}

// serve serves f on a Unix socket, and returns a client.
func serve(t *testing.T, f *fake) (*Server, *http.Client) {
	t.Helper()
	f.asked = make(chan string, 10000)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(ln, f)
	t.Cleanup(func() { s.Close(patience) })
	return s, &http.Client{
		Timeout: patience,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}},
	}
}

type response struct {
	*http.Response
	body string
}

func do(t *testing.T, c *http.Client, what string) response {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	r, err := request(c, method, path)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func request(c *http.Client, method, path string) (response, error) {
	req, err := http.NewRequest(method, "http://baton"+path, nil)
	if err != nil {
		return response{}, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return response{resp, string(bytes.TrimSpace(b))}, err
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what, asked string
		code        int
		body        string
	}{
		{"GET /version", "", 200, `{"supervisor_pid":4711}`},
		{"GET /status", "status", 200, `{"generation":3}`},
		{"POST /reload", "reload", 200, `{"drained":false,"id":7}`},
		{"POST /reload?wait=drained", "reload", 200, `{"drained":true,"id":7}`},
		{"POST /reload?async=1", "reload", 202, `{"id":7}`},
		{"GET /reload/5", "", 200, `{"drained":false,"id":5}`},
		{"GET /reload/5?wait=drained", "", 200, `{"drained":true,"id":5}`},
		{"GET /reload/five", "", 400, ""},
		{"POST /resize?workers=3", "resize +++", 200, `{"workers":3}`},
		{"POST /resize?workers=0", "", 400, ""},
		{"POST /resize?workers=-1", "", 400, ""},
		{"POST /resize?workers=1025", "", 400, ""},
		{"POST /resize?workers=99999999999999999999", "", 400, ""},
		{"POST /resize?workers=many", "", 400, ""},
		{"POST /resize?workers=1025", "", 400, ""},
		{"POST /resize?workers=100000", "", 400, ""},
		{"POST /resize", "", 400, ""},
		{"POST /stop", "stop  ", 202, `{"supervisor_pid":4711}`},
		{"POST /stop?quit=1", "stop quit ", 202, `{"supervisor_pid":4711}`},
		{"POST /stop?now=1", "stop  now", 202, `{"supervisor_pid":4711}`},
		{"GET /stop", "", 405, ""},
		{"GET /reload", "", 405, ""},
		{"POST /status", "", 405, ""},
		{"GET /", "", 404, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			f := &fake{}
			_, c := serve(t, f)
			r := do(t, c, tt.what)
			if r.StatusCode != tt.code || tt.body != "" && r.body != tt.body {
				t.Errorf("%d %s, want %d %s", r.StatusCode, r.body, tt.code, tt.body)
			}
			if tt.body != "" && r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("type %q", r.Header.Get("Content-Type"))
			}
			if !r.Close {
				t.Error("the connection is kept")
			}
			asked := ""
			if len(f.asked) > 0 {
				asked = <-f.asked
			}
			if asked != tt.asked {
				t.Errorf("asked for %q, want %q", asked, tt.asked)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		code int
	}{{"with its code", &Error{Code: 504, Text: "no answer"}, 504}, {"anything else", errors.New("no worker"), 500}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, c := serve(t, &fake{err: tt.err, await: tt.err})
			for _, what := range []string{
				"GET /version", "GET /status", "POST /reload", "POST /reload?async=1", "GET /reload/5",
				"POST /resize?workers=1", "POST /stop",
			} {
				r := do(t, c, what)
				if r.StatusCode != tt.code || r.body != tt.err.Error() {
					t.Errorf("%s: %d %s", what, r.StatusCode, r.body)
				}
			}
		})
	}
}

func TestCloseWaitsForRequests(t *testing.T) {
	t.Parallel()
	f := &fake{entered: make(chan struct{}), release: make(chan struct{})}
	s, c := serve(t, f)
	answered, closed := make(chan string, 1), make(chan struct{})
	go func() {
		r, err := request(c, "GET", "/reload/5")
		if err != nil {
			r.body = err.Error()
		}
		answered <- r.body
	}()
	<-f.entered
	go func() { s.Close(patience); close(closed) }()
	for { // until it accepts no more
		if _, err := request(c, "GET", "/status"); err != nil {
			break
		}
	}
	select {
	case <-closed:
		t.Error("Close did not wait")
	default:
	}
	close(f.release)
	if body := <-answered; body != `{"drained":false,"id":5}` {
		t.Error(body)
	}
	<-closed
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	f := &fake{entered: make(chan struct{}), release: make(chan struct{})}
	s, c := serve(t, f)
	done := make(chan struct{})
	go func() { _, _ = request(c, "GET", "/reload/5"); close(done) }()
	<-f.entered
	s.Close(time.Millisecond)
	close(f.release)
	<-done
}
