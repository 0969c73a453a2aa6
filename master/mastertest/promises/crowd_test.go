package promises_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/master/mastertest"
)

// crowded starts a site whose processes may have so many open files.
func crowded(tb testing.TB, s site, files int) *mastertest.Baton {
	tb.Helper()
	return mastertest.Start(tb, mastertest.Options{
		Config: s.String(),
		Shell:  fmt.Sprintf(`ulimit -n %d; exec "$BATON" "$@"`, files),
	})
}

// keptClient is a connection that makes requests and is kept between them.
type keptClient struct {
	net.Conn
	r *bufio.Reader
}

func keep(tb testing.TB, address string) *keptClient {
	tb.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(2 * mastertest.Timeout))
	return &keptClient{c, bufio.NewReader(c)}
}

func (c *keptClient) ask(path string) error {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// crowdAsks has many clients ask at once. They keep their connections, so that the later ones can only be served when
// the earlier ones are closed.
func crowdAsks(tb testing.TB, address string, n int) (crowd []*keptClient) {
	tb.Helper()
	var all sync.WaitGroup
	for i := range n {
		c := keep(tb, address)
		crowd = append(crowd, c)
		all.Go(func() {
			if err := c.ask("/text"); err != nil {
				tb.Errorf("client %d of %d: %v", i, n, err)
			}
		})
	}
	all.Wait()
	return crowd
}

// TestOutOfFiles: a worker that may open no more files serves all who wait, one after the other, and nothing of a
// reload or of the log suffers from it.
func TestOutOfFiles(t *testing.T) {
	t.Parallel()
	for name, top := range map[string]string{
		"limit by itself": "",
		"no limit":        "max_connections = 100000",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t).with(top)
			s.workers = 1
			b := crowded(t, s, 64)
			crowd := crowdAsks(t, s.listen[0], 200)
			b.Reload()
			if top == "" {
				b.AwaitSettled() // what was still open has moved, though there is hardly a descriptor to do it with
			}
			crowd = append(crowd, crowdAsks(t, s.listen[0], 200)...)
			for _, c := range crowd {
				c.Close()
			}
			st := b.AwaitSettled()
			if shed := st.Workers[0].Shed; shed < 100 || st.Crashes != 0 {
				t.Errorf("%d idle connections closed; %+v", shed, st)
			}
			if n := strings.Count(b.Log(), "no room"); n < 1 || n > 4 {
				t.Errorf("it was said %d times:\n%s", n, b.Log())
			}
		})
	}
}

// TestMaxConnections: what is beyond the limit waits, for another worker or for one that closes, and status says it.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with("max_connections = 10")
	b := start(t, s)
	busy := connect(t, s.listen[0], 20)
	for _, c := range busy { // requests that have begun: nobody closes those
		if _, err := io.WriteString(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12"); err != nil {
			t.Fatal(err)
		}
	}
	held := func(st mastertest.Status) bool {
		return st.Workers[0].Connections == 10 && st.Workers[1].Connections == 10 && st.Workers[0].Held != "" &&
			st.Workers[1].Held != ""
	}
	b.AwaitStatus("two full workers", func(st mastertest.Status) bool { return len(st.Workers) == 2 && held(st) })
	last := keep(t, s.listen[0])
	answer := make(chan error, 1)
	go func() { answer <- last.ask("/text") }()
	select {
	case err := <-answer:
		t.Fatalf("answered, %v", err)
	case <-time.After(200 * time.Millisecond): // nothing happens
	}
	busy[7].Close()
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if r := b.CLI("status"); !strings.Contains(r.Stdout, "10 connections are the limit") {
		t.Errorf("baton status: %s", r.Stdout)
	}
	for i, c := range busy {
		if i == 7 {
			continue
		}
		if _, err := io.WriteString(c, "345"); err != nil {
			t.Error(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "12345" {
			t.Errorf("%q, %v", body, err)
		}
	}
}
