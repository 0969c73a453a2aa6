package promises_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// sse sends thirty server-sent events in three seconds.
const sse = `package main

import (
	"fmt"
	"net/http"
	"os"
	"time"

	"baton/http/httpworker"
	"baton/master"
)

func main() {
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 30 {
			fmt.Fprintf(w, "data: %d from %d\n\n", i, os.Getpid())
			w.(http.Flusher).Flush()
			time.Sleep(100 * time.Millisecond)
		}
	})
	os.Exit(master.Main(httpworker.Handler(nil), os.Args[1:]...))
}
`

// TestEventStreams: streams of server-sent events that take longer than the reload interval are finished whole, by the
// process that began them, while several generations drain at once.
func TestEventStreams(t *testing.T) {
	t.Parallel()
	address := mastertest.FreePort(t)
	b := mastertest.Start(t, mastertest.Options{
		Binary: mastertest.BuildProgram(t, sse), Args: []string{address}, Env: []string{"BATON_CONTROL=baton.sock"},
	})
	const streams = 4
	ended := make(chan error, streams)
	for generation := 1; generation <= streams; generation++ {
		resp, err := http.Get("http://" + address + "/events")
		if err != nil {
			t.Fatal(err)
		}
		first := bufio.NewScanner(resp.Body)
		if !first.Scan() {
			t.Fatal(first.Err())
		}
		go func() {
			defer resp.Body.Close()
			ended <- wholeStream(first, first.Text())
		}()
		b.Signal(unix.SIGHUP)
		b.AwaitGeneration(generation + 1)
	}
	if st := b.Status(); drainingGenerations(st) < 2 {
		t.Errorf("no two generations drain: %+v", st)
	}
	for range streams {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	st := b.AwaitSettled()
	if st.CutRequests != 0 || st.CutConnections != 0 {
		t.Errorf("cut: %+v", st)
	}
}

// wholeStream checks the events that follow the first one: all of them, in their order, from one process.
func wholeStream(s *bufio.Scanner, first string) error {
	_, from, _ := strings.Cut(first, " from ")
	n := 1
	for s.Scan() {
		if s.Text() == "" {
			continue
		}
		if want := fmt.Sprintf("data: %d from %s", n, from); s.Text() != want {
			return fmt.Errorf("event %d: %q, want %q", n, s.Text(), want)
		}
		n++
	}
	if n != 30 {
		return fmt.Errorf("%d events, want 30: %w", n, cmp.Or(s.Err(), io.ErrUnexpectedEOF))
	}
	return nil
}

func drainingGenerations(st mastertest.Status) int {
	seen := map[int]bool{}
	for _, w := range st.Workers {
		if w.State == "draining" {
			seen[w.Generation] = true
		}
	}
	return len(seen)
}
