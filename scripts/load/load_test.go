package load

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// site answers everything that the classes ask for.
func site(large []byte) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Write(body)
	})
	mux.HandleFunc("GET /large", func(w http.ResponseWriter, _ *http.Request) { w.Write(large) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"generation":7,"version":"v7"}`)
	})
	return mux
}

func all(n int) []ClassCount {
	var counts []ClassCount
	for _, c := range Classes() {
		counts = append(counts, ClassCount{c, n})
	}
	return counts
}

func TestAllClassesAgainstAGoodServer(t *testing.T) {
	large := make([]byte, 1<<20)
	for i := range large {
		large[i] = byte(i * 31 >> 3)
	}
	unixPath := filepath.Join(t.TempDir(), "s")
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			address := "127.0.0.1:0"
			if network == "unix" {
				address = unixPath
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			server := &httptest.Server{Listener: l, Config: &http.Server{Handler: site(large)}}
			server.Start()
			defer server.Close()
			target := l.Addr().String()
			if network == "unix" {
				target = "unix:" + target
			}

			report := Run(t.Context(), Config{
				Target: target, Classes: all(2), Duration: 1500 * time.Millisecond,
				LargePath: "/large", Large: large, ReadPause: time.Millisecond,
			})
			if report.Failed() != 0 {
				t.Error(report)
			}
			for _, c := range report.Classes {
				if c.Requests == 0 || c.Latency.Max == 0 {
					t.Errorf("class %s: no requests", c.Class)
				}
				kept := c.Class != "new" && c.Class != "silent"
				if kept && c.Connections != 2 {
					t.Errorf("class %s: %d connections by 2 clients that keep theirs", c.Class, c.Connections)
				}
				if c.Class == "new" && c.Connections != c.Requests {
					t.Errorf("class new: %d connections for %d requests", c.Connections, c.Requests)
				}
			}
			if report.Generations[7] == 0 || report.Versions["v7"] != report.Generations[7] {
				t.Errorf("generations %v, versions %v", report.Generations, report.Versions)
			}
			if _, err := json.Marshal(report); err != nil {
				t.Error(err)
			}
			if !strings.Contains(report.String(), "total") {
				t.Errorf("no total in\n%s", report)
			}
		})
	}
}

// TestEachFailureIsSeen has a server that does one thing wrong, and a client that must call it by its name.
func TestEachFailureIsSeen(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	reset := func(c *net.TCPConn) { c.SetLinger(0); c.Close() }
	say := func(text string) func(*net.TCPConn) {
		return func(c *net.TCPConn) { readRequest(c); io.WriteString(c, text); c.Close() }
	}
	cases := []struct {
		name   string
		want   Kind
		class  string
		serve  func(*net.TCPConn) // nil: nobody listens
		change func(*Config)
		turns  int
	}{
		{name: "nobody listens", want: Refused, class: "reader"},
		{name: "reset at once", want: ResetBefore, class: "upload", serve: reset},
		{
			name: "reset after the request", want: ResetAfter, class: "reader",
			serve: func(c *net.TCPConn) { readRequest(c); reset(c) },
		},
		{name: "closed after the request", want: EOF, class: "reader", serve: say("")},
		{name: "closed while idle", want: EOF, class: "reader", turns: 2, serve: func(c *net.TCPConn) {
			readRequest(c)
			io.WriteString(c, answer)
			c.CloseWrite() // Close would answer the next request with a reset, sooner or later
			io.Copy(io.Discard, c)
			c.Close()
		}},
		{
			name: "short body", want: Short, class: "reader",
			serve: say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
		},
		{name: "short header", want: Short, class: "reader", serve: say("HTTP/1.1 200 OK\r\nContent-Le")},
		{
			name: "short chunks", want: Short, class: "reader",
			serve: say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
		},
		{name: "reset within the body", want: Short, class: "reader", serve: func(c *net.TCPConn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
			c.Read(make([]byte, 1)) // the client has read what there is
			reset(c)
		}, change: func(cfg *Config) {
			cfg.Classes[0].Class.Turn = func(c *Client) error {
				conn, err := c.Conn()
				if err != nil {
					return err
				}
				conn.Send(c.head("GET", "/", ""))
				conn.r.Peek(len("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"))
				conn.Send([]byte("x"))
				_, err = c.Answer(time.Now())
				return err
			}
		}},
		{name: "another body", want: Wrong, class: "writer", serve: say(answer)},
		{name: "no HTTP", want: Wrong, class: "reader", serve: say("hello\r\n\r\n")},
		{name: "503", want: BadStatus, class: "reader", serve: say("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")},
		{name: "404", want: BadStatus, class: "reader", serve: say("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")},
		{name: "no answer", want: Hang, class: "reader", serve: silent, change: shortly},
		{name: "no answer to one that came late", want: Hang, class: "aged", serve: silent, change: shortly},
		{name: "no second answer", want: Hang, class: "reader", turns: 2, change: shortly, serve: func(c *net.TCPConn) {
			readRequest(c)
			io.WriteString(c, answer)
			silent(c)
		}},
		{name: "half an answer", want: Hang, class: "reader", change: shortly, serve: func(c *net.TCPConn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
			silent(c)
		}},
		{name: "half a header", want: Hang, class: "reader", change: shortly, serve: func(c *net.TCPConn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
			silent(c)
		}},
		{name: "nobody reads", want: Hang, class: "writer", serve: unread, change: func(cfg *Config) {
			shortly(cfg)
			cfg.Classes[0].Class.Turn = func(c *Client) error { return c.Echo(32<<20, 1, 0, "") }
		}},
		{name: "no handshake", want: Hang, class: "reader", serve: silent, change: func(cfg *Config) {
			shortly(cfg)
			cfg.TLS = &tls.Config{ServerName: "x"}
		}},
		{
			name: "end announced before the pipeline's", want: Unanswered, class: "pipelined",
			serve: say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			class, err := FindClass(tc.class)
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{Target: serve(t, tc.serve), Classes: []ClassCount{{class, 1}}, MaxPause: -1}
			if tc.change != nil {
				tc.change(&cfg)
			}
			report := runTurns(t, cfg, max(1, tc.turns))
			if report.Failed() != 1 || report.Total.Failures[tc.want] != 1 {
				t.Errorf("want one failure of kind %q, got\n%s", tc.want, report)
			}
			if len(report.First) != 1 || report.First[0].Class != tc.class || report.First[0].Time.IsZero() {
				t.Errorf("the failure is not described: %+v", report.First)
			}
		})
	}
}

// silent reads all that comes and says nothing; unread does not even read. Both wait for the client's end.
func silent(c *net.TCPConn) {
	io.Copy(io.Discard, c)
	c.Close()
}

func unread(c *net.TCPConn) {
	for !hungUp(c) {
		time.Sleep(time.Millisecond)
	}
	c.Close()
}

// hungUp reports whether the other side has closed, whatever lies unread before that.
func hungUp(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	poll := []unix.PollFd{{Events: unix.POLLRDHUP}}
	err = raw.Control(func(fd uintptr) { poll[0].Fd = int32(fd); _, _ = unix.Poll(poll, 0) })
	return err != nil || poll[0].Revents != 0
}

// shortly makes clients impatient.
func shortly(cfg *Config) { cfg.Timeout, cfg.MaxIdle = 100*time.Millisecond, 200*time.Millisecond }

// TestAgedAsksAtTheEnd: whoever is idle when the run ends asks once more, so that a connection that was lost meanwhile
// is found in a short run too.
func TestAgedAsksAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		answer string
		hangs  int64
	}{
		{"answered", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 0},
		{"silent", "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			accepted := make(chan struct{}, 1)
			target := serve(t, func(c *net.TCPConn) {
				accepted <- struct{}{}
				readRequest(c)
				io.WriteString(c, tc.answer)
				silent(c)
			})
			class, err := FindClass("aged")
			if err != nil {
				t.Fatal(err)
			}
			r := Start(t.Context(), Config{
				Target: target, Classes: []ClassCount{{class, 1}}, Timeout: 100 * time.Millisecond,
				MaxIdle: 1000 * time.Hour, Seed: lateSeed(),
			})
			<-accepted
			if report := r.Stop(); report.Total.Requests != 1 || report.Failed() != tc.hangs ||
				report.Total.Failures[Hang] != tc.hangs {
				t.Errorf("want one request and %d hangs, got\n%s", tc.hangs, report)
			}
		})
	}
}

// lateSeed is a seed with which the first client's first idle time is long, and its first request a GET.
func lateSeed() uint64 {
	for seed := uint64(1); ; seed++ {
		if r := rand.New(rand.NewPCG(seed, 0)); r.Float64() > 0.9 && r.IntN(2) == 0 {
			return seed
		}
	}
}

// TestAge: times of every magnitude, and none beyond the limit.
func TestAge(t *testing.T) {
	for _, tc := range []struct {
		chance     float64
		most, want time.Duration
	}{
		{0, time.Minute, time.Millisecond},
		{0.5, 100 * time.Second, 316 * time.Millisecond},
		{0.8, 100 * time.Second, 10 * time.Second},
		{0.9999991, 100 * time.Second, 99999 * time.Millisecond},
		{0.5, time.Microsecond, time.Microsecond},
		{0.5, 0, 0},
	} {
		if got := age(tc.chance, tc.most); got.Round(time.Millisecond) != tc.want.Round(time.Millisecond) {
			t.Errorf("age(%v, %v) is %v, want about %v", tc.chance, tc.most, got, tc.want)
		}
	}
}

// TestAnnouncedEndIsNoFailure: a client follows `Connection: close`, and opens another connection.
func TestAnnouncedEndIsNoFailure(t *testing.T) {
	target := serve(t, func(c *net.TCPConn) {
		readRequest(c)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
	})
	report := runTurns(t, Config{Target: target, Classes: []ClassCount{{Classes()[1], 1}}, MaxPause: -1}, 5)
	if report.Failed() != 0 || report.Total.Connections != 5 || report.Total.Requests != 5 {
		t.Errorf("want 5 requests on 5 connections without failure, got\n%s", report)
	}
}

// TestLook: a client that looks does not use a connection that was closed while it waited, and one that does not look
// fails there.
func TestLook(t *testing.T) {
	for _, look := range []bool{false, true} {
		closed := make(chan struct{}, 5)
		target := serve(t, func(c *net.TCPConn) {
			readRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			c.Close()
			closed <- struct{}{}
		})
		report := runTurns(t, Config{
			Target: target, Classes: []ClassCount{{Classes()[1], 1}}, MaxPause: -1, Look: look,
			OnResponse: func(*Response) { <-closed },
		}, 5)
		if look && (report.Failed() != 0 || report.Total.Connections != 5) {
			t.Errorf("looking, want 5 requests on 5 connections without failure, got\n%s", report)
		}
		if !look && report.Failed() == 0 {
			t.Errorf("not looking, want failures, got\n%s", report)
		}
	}
}

// TestStopFinishesTheTurn: what is under way when the run ends is waited for.
func TestStopFinishesTheTurn(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		io.WriteString(w, "ok")
	}))
	defer server.Close()
	r := Start(t.Context(), Config{Target: server.Listener.Addr().String(), Classes: []ClassCount{{Classes()[0], 1}}})
	<-begun
	r.stop()
	close(release)
	if report := r.Wait(); report.Failed() != 0 || r.Answers() != 1 {
		t.Errorf("%d answers,\n%s", r.Answers(), report)
	}
}

func TestParseClasses(t *testing.T) {
	got, err := ParseClasses("new=4, reader,writer=16")
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, cc := range got {
		text = append(text, fmt.Sprint(cc.Class.Name, cc.Count))
	}
	if s := strings.Join(text, " "); s != "new4 reader1 writer16" {
		t.Error(s)
	}
	for _, bad := range []string{"", "nobody", "new=0", "new=x"} {
		if _, err := ParseClasses(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{
		0.5: 501 * time.Millisecond, 0.99: 991 * time.Millisecond,
		1: time.Second,
	} {
		if got := h.quantile(q); got < want || got > want+want/16 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	for d := time.Duration(1); d < time.Hour; d = d*5/4 + 1 {
		if b := bucket(d); limit(b) < d.Truncate(time.Microsecond) || b > 0 && limit(b-1) >= d {
			t.Errorf("%v is in bucket %d, up to %v", d, b, limit(b))
		}
	}
}

// runTurns lets each client take n turns.
func runTurns(t *testing.T, cfg Config, n int) *Report {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var taken atomic.Int64
	class := &cfg.Classes[0].Class
	turn := class.Turn
	class.Turn = func(c *Client) error {
		err := turn(c)
		if taken.Add(1) == int64(n) {
			stop()
		}
		return err
	}
	return Run(ctx, cfg)
}

// TestLostSYNIsLate has a server whose queue is full when the client comes.
func TestLostSYNIsLate(t *testing.T) {
	t.Parallel()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	filler, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	go func() {
		// the other side of a socket in SYN_SENT
		asking := fmt.Sprintf("0100007F:%04X 02", l.Addr().(*net.TCPAddr).Port)
		for t.Context().Err() == nil {
			if b, _ := os.ReadFile("/proc/net/tcp"); strings.Contains(string(b), asking) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				readRequest(c)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}()
		}
	}()
	report := runTurns(t, Config{Target: l.Addr().String(), Classes: []ClassCount{{Classes()[1], 1}}, MaxPause: -1}, 1)
	if report.Failed() != 1 || report.Total.Failures[Late] != 1 {
		t.Errorf("want one failure of kind late, got\n%s", report)
	}
}

// TestSlowClientIsNotLate: what took long was the client.
func TestSlowClientIsNotLate(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(site(nil))
	defer server.Close()
	cfg := Config{
		Target: server.Listener.Addr().String(), Classes: []ClassCount{{Classes()[0], 1}}, MaxPause: -1,
		LateAfter: 1,
	}
	if report := runTurns(t, cfg, 10); report.Failed() != 0 {
		t.Error(report)
	}
}

// serve accepts connections for f, one after the other; with nil it returns an address where nobody listens.
func serve(t *testing.T, f func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if f == nil {
		l.Close()
		return l.Addr().String()
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

// readRequest reads one request whole.
func readRequest(c net.Conn) {
	conn := &Conn{Conn: c}
	buf, text := make([]byte, 1<<20), ""
	for {
		n, err := conn.Read(buf)
		text += string(buf[:n])
		head, body, whole := strings.Cut(text, "\r\n\r\n")
		length := 0
		if _, l, found := strings.Cut(head, "Content-Length: "); found {
			fmt.Sscan(l, &length)
		}
		if err != nil || whole && len(body) >= length {
			return
		}
	}
}

// TestTLSAndExcuses: all classes talk TLS as well, and a failure with an excuse is counted apart, under its word.
func TestTLSAndExcuses(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(site(nil))
	defer server.Close()
	good := Config{
		Target: server.Listener.Addr().String(), Classes: all(1), Duration: time.Second,
		TLS: server.Client().Transport.(*http.Transport).TLSClientConfig,
	}
	good.TLS.ServerName = "example.com"
	if report := Run(t.Context(), good); report.Failed() != 0 || report.Total.Requests == 0 {
		t.Error(report)
	}

	bad := good
	bad.TLS = nil // HTTP to a TLS port
	bad.Classes, bad.Duration = Mix(2, 0, 0), 200*time.Millisecond
	var met atomic.Int64
	bad.Excuse = func(f Failure) string {
		if f.Local == "" || f.Kind == "" || f.Class != "new" {
			t.Errorf("failure %+v", f)
		}
		if met.Add(1) == 1 {
			return ""
		}
		return "was bound to"
	}
	report := Run(t.Context(), bad)
	if report.Failed() != 1 || report.Total.Excused["was bound to"] != met.Load()-1 || met.Load() < 2 {
		t.Errorf("%d failures met\n%s", met.Load(), report)
	}
	if !strings.Contains(report.String(), "not counted as failed") {
		t.Errorf("the table is silent about it:\n%s", report)
	}
}
