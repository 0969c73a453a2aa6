package httpworker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"baton/worker/workertest"
)

// short is a limit that a test waits for.
const short = 150 * time.Millisecond

// reading is a handler that reports how reading the body ended, and answers.
func reading(ends chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		ends <- err
		if errors.Is(err, os.ErrDeadlineExceeded) {
			w.WriteHeader(http.StatusRequestTimeout)
		}
		_, _ = io.WriteString(w, r.URL.Path)
	})
}

// halves are requests whose bodies do not go on.
var halves = map[string]string{
	"length":  "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n12345",
	"chunked": "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
	"nothing": "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n",
}

func TestHalfBodyEnds(t *testing.T) {
	ends := make(chan error, 10)
	p := start(t, Settings{Handler: reading(ends), BodyTimeout: short})
	secure := startTLS(t, Settings{Handler: reading(ends), BodyTimeout: short})
	for name, half := range halves {
		t.Run(name, func(t *testing.T) {
			c := dial(t, p)
			c.send(get("/1")) // the timer of an earlier phase is armed
			c.want(200, "/1")
			<-ends
			begin := time.Now()
			c.send(half)
			c.wantLast(408, "")
			if err := <-ends; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) < short {
				t.Errorf("%v after %v", err, time.Since(begin))
			}
			tc := dialTLS(t, secure, clientTLS("http/1.1"))
			_, _ = io.WriteString(tc.tls, half)
			tc.wantLast(408, "")
			<-ends
		})
	}
}

// A handler that does not look at the body: net/http waits for the rest of it before it answers.
func TestHalfBodyOfIgnorantHandlerEnds(t *testing.T) {
	p := start(t, Settings{BodyTimeout: short, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "done")
	})})
	c := dial(t, p)
	c.send(halves["length"])
	c.wantLast(200, "done")
}

// A drain waits for half a body no longer than without it.
func TestHalfBodyEndsInDrain(t *testing.T) {
	ends := make(chan error, 1)
	p := start(t, Settings{Handler: reading(ends), BodyTimeout: short})
	c := dial(t, p)
	c.send(halves["length"])
	accepted(t, p)
	<-ends
	p.Drain(time.Hour)
	c.wantLast(408, "")
	_ = c.Close()
	if err := p.Wait(); err != nil || p.Counters.CutRequests.Load() != 0 {
		t.Error(err, p.Counters.CutRequests.Load())
	}
}

// Each piece has the whole limit, and the time in which the handler does not read is not the client's.
func TestSlowBodyGoesOn(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	g := newGateWith(t, Settings{})
	p := start(t, Settings{BodyTimeout: limit, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.entered <- struct{}{}
		<-g.leave
		echo(w, r)
	})})
	c := dial(t, p)
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n1")
	<-g.entered
	<-time.After(limit + limit/4)
	g.leave <- struct{}{}
	for _, b := range "2345678" {
		<-time.After(limit / 4)
		c.send(string(b))
	}
	c.want(200, "/12345678")
	c.send(get("/")) // the connection goes on
	<-g.entered
	<-time.After(limit + limit/4) // no body: nobody waits for one
	g.leave <- struct{}{}
	c.want(200, "/")
}

// A deadline that the handler sets replaces the limit.
func TestHandlerChoosesBodyDeadline(t *testing.T) {
	for _, own := range []time.Duration{time.Millisecond, time.Hour} {
		ends := make(chan error, 1)
		p := start(t, Settings{
			BodyTimeout: short,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(own))
				reading(ends).ServeHTTP(w, r)
			}),
		})
		c := dial(t, p)
		c.send(halves["length"])
		if own == time.Hour {
			<-time.After(2 * short)
			c.send("67890")
			c.want(200, "/")
		} else {
			c.wantLast(408, "")
		}
	}
}

func TestNoBodyTimeout(t *testing.T) {
	p := start(t, Settings{BodyTimeout: -1, SendTimeout: -1})
	c := dial(t, p)
	c.send(halves["length"])
	<-time.After(short)
	c.send("67890")
	c.want(200, "/1234567890")
}

func TestHalfBodyEndsHTTP2(t *testing.T) {
	ends := make(chan error, 1)
	p := startTLS(t, Settings{Handler: reading(ends), BodyTimeout: short})
	body, rest := io.Pipe()
	defer func() { _ = rest.Close() }()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS("h2"), ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Post("https://"+p.Addr()+"/", "", body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if err := <-ends; resp.ProtoMajor != 2 || resp.StatusCode != 408 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s %s, %v", resp.Proto, resp.Status, err)
	}
}

// large is a file that no socket's buffers hold.
func large(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(f.Truncate(largeSize), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return name
}

const largeSize = 64 << 20

// answers are ways to write a large response.
func answers(t *testing.T) map[string]http.HandlerFunc {
	file := large(t)
	return map[string]http.HandlerFunc{
		"sendfile": func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) },
		"one write": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, largeSize))
		},
		"copy": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(zeros{}, largeSize))
		},
	}
}

// transports are the ways by which a client may come; dial begins a request.
func transports(t *testing.T, s Settings) map[string]func() net.Conn {
	plain, secure := start(t, s), startTLS(t, s)
	path := filepath.Join(t.TempDir(), "sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	workertest.Start(t, &Worker{Settings: s}, workertest.Options{Listeners: []net.Listener{ln}})
	return map[string]func() net.Conn{
		"tcp": func() net.Conn { return dial(t, plain).TCPConn },
		"tls": func() net.Conn { return dialTLS(t, secure, clientTLS("http/1.1")).tls },
		"unix": func() net.Conn {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetReadDeadline(time.Now().Add(never))
			return c
		},
	}
}

// ended tells a test when handlers have ended.
func ended(h http.Handler) (http.Handler, <-chan time.Duration) {
	ends := make(chan time.Duration, 10)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		h.ServeHTTP(w, r)
		ends <- time.Since(begin)
	}), ends
}

func TestClientThatDoesNotReadIsClosed(t *testing.T) {
	for how, answer := range answers(t) {
		h, ends := ended(answer)
		for transport, dial := range transports(t, Settings{Handler: h, SendTimeout: short}) {
			t.Run(how+" "+transport, func(t *testing.T) {
				c := dial()
				_, _ = io.WriteString(c, get("/"))
				if took := <-ends; took < short {
					t.Errorf("given up after %v", took)
				}
				if n, err := io.Copy(io.Discard, c); n >= largeSize {
					t.Errorf("read %d, %v", n, err)
				}
			})
		}
	}
}

// A client that reads slowly, far longer than the limit but never pausing as long, gets all.
func TestClientThatReadsSlowlyGetsAll(t *testing.T) {
	const limit = 400 * time.Millisecond
	for how, answer := range answers(t) {
		h, ends := ended(answer)
		for transport, dial := range transports(t, Settings{Handler: h, SendTimeout: limit}) {
			t.Run(how+" "+transport, func(t *testing.T) {
				t.Parallel()
				var err error
				for range 3 { // a busy machine may pause as long, but not each time
					c := dial()
					_, _ = io.WriteString(c, get("/"))
					err = readSlowly(c, limit/4)
					if took := <-ends; took < limit {
						t.Fatalf("written within %v: it did not wait for the client", took)
					}
					if err == nil {
						return
					}
				}
				t.Error(err)
			})
		}
	}
}

// readSlowly reads what answers say, with ten pauses at its beginning.
func readSlowly(c net.Conn, pause time.Duration) error {
	got := int64(0)
	for range 10 {
		<-time.After(pause)
		n, err := io.CopyN(io.Discard, c, 2<<20)
		if got += n; err != nil {
			return fmt.Errorf("after %d bytes: %w", got, err)
		}
	}
	n, err := io.CopyN(io.Discard, c, largeSize-got)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", got+n, err)
	}
	return nil
}

// A response that has nothing to say for long, and one after a long pause, are not cut.
func TestSilentResponseIsNotCut(t *testing.T) {
	g := newGateWith(t, Settings{SendTimeout: short, IdleTimeout: never})
	c := dialTo(t, g)
	for range 2 {
		c.send(get("/1"))
		<-g.entered
		<-time.After(2 * short)
		g.leave <- struct{}{}
		c.want(200, "/1")
		<-time.After(2 * short)
	}
}

// What is hijacked has no limits but its own.
func TestHijackedHasNoSendTimeout(t *testing.T) {
	wrote := make(chan error, 1)
	p := start(t, Settings{SendTimeout: short, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		nc, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			wrote <- err
			return
		}
		_, err = nc.Write(make([]byte, largeSize))
		wrote <- err
		_ = nc.Close()
	})})
	c := dial(t, p)
	c.send(get("/"))
	<-time.After(3 * short)
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Error(err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// A client of HTTP/2 that reads nothing of its TCP connection, and one that reads and gives a stream no room.
func TestHTTP2ClientThatDoesNotReadIsClosed(t *testing.T) {
	h, ends := ended(answers(t)["copy"])
	p := startTLS(t, Settings{Handler: h, SendTimeout: short})
	for name, window := range map[string]string{
		"no window": "\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		// SETTINGS_INITIAL_WINDOW_SIZE
		"does not read": "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff" +
			"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\x00\x00", // WINDOW_UPDATE of the connection
	} {
		t.Run(name, func(t *testing.T) {
			tc := dialTLS(t, p, clientTLS("h2"))
			_, _ = io.WriteString(tc.tls, preface+window+"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x84\x87\x41\x01h")
			if took := <-ends; took < short {
				t.Errorf("given up after %v", took)
			}
		})
	}
}

// What net/http still has to write when the handler has returned has an end as well; the connection serves on.
func TestHTTP2ResponseWithoutRoomEnds(t *testing.T) {
	p := startTLS(t, Settings{SendTimeout: short})
	tc := dialTLS(t, p, clientTLS("h2"))
	const noRoom = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00" // SETTINGS_INITIAL_WINDOW_SIZE
	_, _ = io.WriteString(tc.tls, preface+noRoom+"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x84\x87\x41\x01h")
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(tc.r, head[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, tc.r, int64(head[1])<<8|int64(head[2])); err != nil {
			t.Fatal(err)
		}
		const resetStream = 0x3
		if head[3] == resetStream {
			break
		}
	}
}
