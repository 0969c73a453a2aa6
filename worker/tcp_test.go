package worker_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"baton/worker"
	"baton/worker/echo"
	"baton/worker/workertest"
)

// patience is long enough for whatever a test waits for: it ends tests that fail.
const patience = 20 * time.Second

// echoTCP is what most tests serve.
var echoTCP = worker.TCP{Process: echo.Process{}, Protocol: "echo"}

// lines answers each line with the line in brackets; an empty one ends the conversation.
var lines = worker.ProcessFunc(func(_ context.Context, c *worker.Conn) {
	r := bufio.NewReader(c)
	for {
		if r.Buffered() == 0 {
			c.Idle()
		}
		line, err := r.ReadString('\n')
		if line = strings.TrimSpace(line); err != nil || line == "" {
			return
		}
		_, _ = fmt.Fprintf(c, "[%s]\n", line)
	}
})

// listen is a socket that several workers get.
func listen(t *testing.T) []net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return []net.Listener{ln}
}

// client is one connection.
type client struct {
	net.Conn
	t *testing.T
}

func dial(t *testing.T, addr string) client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return client{c, t}
}

func (c client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Error(err)
	}
}

func (c client) want(text string) {
	c.t.Helper()
	b := make([]byte, len(text))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != text {
		c.t.Errorf("read %q, %v, want %q", b[:n], err, text)
	}
}

func (c client) says(text string) {
	c.t.Helper()
	c.send(text)
	c.want(text)
}

// wantEnd wants Serve to return nil, after n connections were cut.
func wantEnd(t *testing.T, p *workertest.Process, cut int64) {
	t.Helper()
	if err := p.Wait(); err != nil || p.Counters.CutConns.Load() != cut || p.Counters.Active.Load() != 0 {
		t.Errorf("Serve: %v, cut %d, want %d, active %d", err, p.Counters.CutConns.Load(), cut,
			p.Counters.Active.Load())
	}
}

func TestTCPServesUntilItsClientsClose(t *testing.T) {
	t.Parallel()
	p := workertest.Start(t, echoTCP, workertest.Options{Process: "echo"})
	c := dial(t, p.Addr())
	c.says("one")
	if n := p.Counters.Conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	p.Drain(patience)
	c.says("two")
	if !p.Serving() {
		t.Error("Serve returned before its connection")
	}
	_ = c.Close()
	wantEnd(t, p, 0)
	if n := p.Counters.Requests.Load(); n != 2 {
		t.Errorf("%d messages answered, want 2", n)
	}
}

// Others may write while ReadFrom waits for something to write, as with any net.Conn.
func TestWriteDuringReadFrom(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	c := &worker.Conn{Conn: theirs}
	stream, more := io.Pipe()
	copied := make(chan error, 1)
	go func() {
		_, err := c.ReadFrom(stream)
		copied <- err
	}()
	client := client{ours, t}
	_ = ours.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = more.Write([]byte("a")) }()
	client.want("a") // ReadFrom is at it
	go func() { _, _ = c.Write([]byte("ping")) }()
	client.want("ping")
	_ = more.Close()
	if err := <-copied; err != nil {
		t.Error(err)
	}
}

func TestTCPServesItsOwnSocketsOnly(t *testing.T) {
	t.Parallel()
	p := workertest.Start(t, worker.Group(echoTCP, worker.TCP{Process: lines, Protocol: "lines"}),
		workertest.Options{Process: "lines"})
	c := dial(t, p.Addr())
	c.send("hello\n")
	c.want("[hello]\n")
}

// TestTCPMoves: idle connections go on with the next generation, over several.
func TestTCPMoves(t *testing.T) {
	t.Parallel()
	o := workertest.Options{Process: "echo", Listeners: listen(t), Queue: workertest.NewQueue(t)}
	old := workertest.Start(t, echoTCP, o)
	var clients []client
	for range 300 {
		c := dial(t, old.Addr())
		c.says("hello")
		clients = append(clients, c)
	}
	for range 3 {
		next := workertest.Start(t, echoTCP, o)
		old.Drain(patience)
		wantEnd(t, old, 0)
		for i, c := range clients {
			c.says(fmt.Sprint("still here ", i))
		}
		if n := next.Handover().Counts.Taken.Load(); n != int64(len(clients)) {
			t.Errorf("%d connections have moved, want %d", n, len(clients))
		}
		old = next
	}
}

// TestTCPMovesUnderLoad: no byte is lost, doubled or mixed up, whatever it meets.
func TestTCPMovesUnderLoad(t *testing.T) {
	t.Parallel()
	o := workertest.Options{Process: "echo", Listeners: listen(t), Queue: workertest.NewQueue(t)}
	old := workertest.Start(t, echoTCP, o)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	for range 8 {
		c := dial(t, old.Addr())
		go func() { done <- talk(ctx, c) }()
	}
	for range 20 {
		next := workertest.Start(t, echoTCP, o)
		old.Drain(patience)
		wantEnd(t, old, 0)
		old = next
	}
	stop()
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// talk sends numbered messages, a few ahead of their answers, until ctx ends.
func talk(ctx context.Context, c net.Conn) error {
	const ahead = 4
	r := bufio.NewReader(c)
	for sent, got := 0, 0; ; got++ {
		for ; sent < got+ahead && ctx.Err() == nil; sent++ {
			if _, err := fmt.Fprintf(c, "message %d\n", sent); err != nil {
				return err
			}
		}
		if got == sent {
			return nil
		}
		line, err := r.ReadString('\n')
		if want := fmt.Sprintf("message %d\n", got); err != nil || line != want {
			return fmt.Errorf("read %q, %w, want %q", line, err, want)
		}
	}
}

// TestTCPKeepsHalfALine: a connection does not move while a part of a message is in user space.
func TestTCPKeepsHalfALine(t *testing.T) {
	t.Parallel()
	o := workertest.Options{Process: "lines", Listeners: listen(t), Queue: workertest.NewQueue(t)}
	w := worker.TCP{Process: lines, Protocol: "lines"}
	old := workertest.Start(t, w, o)
	c := dial(t, old.Addr())
	c.send("one\ntw")
	c.want("[one]\n")
	next := workertest.Start(t, w, o)
	old.Drain(patience)
	if !old.Serving() {
		t.Error("Serve returned with half a line in its hands")
	}
	c.send("o\n")
	c.want("[two]\n")
	wantEnd(t, old, 0)
	c.send("three\n")
	c.want("[three]\n")
	c.send("\n")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	if next.Handover().Counts.Taken.Load() != 1 {
		t.Error("it did not move")
	}
}

// TestTCPStaysWhereNobodyTakesIt: the next generation does not serve that address.
func TestTCPStaysWhereNobodyTakesIt(t *testing.T) {
	t.Parallel()
	one, two := listen(t), listen(t)
	q := workertest.NewQueue(t)
	old := workertest.Start(t, echoTCP, workertest.Options{Process: "echo", Listeners: append(one, two...), Queue: q})
	c := dial(t, two[0].Addr().String())
	c.says("hello")
	next := workertest.Start(t, echoTCP, workertest.Options{Process: "echo", Listeners: one, Queue: q})
	old.Drain(patience)
	c.says("still here")
	c.says("and here")
	_ = c.Close()
	wantEnd(t, old, 0)
	if old.Handover().Counts.Kept.Load() != 0 || next.Handover().Counts.Refused.Load() != 0 {
		t.Error("it was offered to somebody who does not know it")
	}
}

func TestTCPCutsAtTheDeadline(t *testing.T) {
	t.Parallel()
	p := workertest.Start(t, worker.TCP{Process: lines, Protocol: "lines"}, workertest.Options{Process: "lines"})
	idle, begun := dial(t, p.Addr()), dial(t, p.Addr())
	idle.send("hello\n")
	idle.want("[hello]\n")
	begun.send("one\ntw")
	begun.want("[one]\n")
	// an answer is there before its end
	for end := time.Now().Add(patience); p.Counters.Active.Load() > 1 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	p.Drain(0)
	if err := p.Wait(); err != nil || p.Counters.CutConns.Load() != 2 || p.Counters.CutRequests.Load() > 1 {
		t.Errorf("Serve: %v, cut %d connections, %d requests", err, p.Counters.CutConns.Load(),
			p.Counters.CutRequests.Load())
	}
}

// TestTCPStop: an idle connection is closed after a moment, one with half a message is not.
func TestTCPStop(t *testing.T) {
	t.Parallel()
	o := workertest.Options{Process: "lines", Queue: workertest.NewQueue(t)}
	p := workertest.Start(t, worker.TCP{Process: lines, Protocol: "lines"}, o)
	idle, begun := dial(t, p.Addr()), dial(t, p.Addr())
	idle.send("hello\n")
	idle.want("[hello]\n")
	begun.send("one\ntw")
	begun.want("[one]\n")
	p.Stop(patience)
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("idle: %v", err)
	}
	begun.send("o\n\n")
	begun.want("[two]\n")
	_, _ = begun.Read(make([]byte, 1))
	_ = begun.Close()
	wantEnd(t, p, 1)
}

func TestTCPPanicEndsItsConnectionOnly(t *testing.T) {
	t.Parallel()
	p := workertest.Start(t, worker.TCP{
		Protocol: "bits",
		Process: worker.ProcessFunc(func(_ context.Context, c *worker.Conn) {
			var b [1]byte
			if _, _ = c.Read(b[:]); b[0] == '!' {
				panic("on purpose")
			}
			_, _ = c.Write(b[:])
		}),
	}, workertest.Options{Process: "bits", Log: slog.New(slog.DiscardHandler)})
	bad, good := dial(t, p.Addr()), dial(t, p.Addr())
	bad.send("!")
	if _, err := bad.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection: %v", err)
	}
	good.says("x")
}

// TestConnKeepsTheDeadlinesOfItsProcess: waking a Read for a drain is not seen.
func TestConnKeepsTheDeadlinesOfItsProcess(t *testing.T) {
	t.Parallel()
	const idle = 300 * time.Millisecond
	ended := make(chan error, 1)
	p := workertest.Start(t, worker.TCP{
		Protocol: "lines",
		Process: worker.ProcessFunc(func(_ context.Context, c *worker.Conn) {
			var b [1]byte
			_, _ = c.Read(b[:])
			_, _ = c.Write(b[:])
			c.Idle()
			began := time.Now()
			_ = c.SetReadDeadline(began.Add(idle))
			_, err := c.Read(b[:])
			if time.Since(began) < idle {
				err = fmt.Errorf("after %v: %w", time.Since(began), err)
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
			ended <- err
		}),
	}, workertest.Options{Process: "lines"})
	c := dial(t, p.Addr())
	c.says("x")
	p.Drain(patience)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert := certificate(t)
	w := worker.TLS{
		Process: echo.Process{}, Protocol: "echo",
		Config: func(*worker.Env, worker.Socket) (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
		},
	}
	o := workertest.Options{Process: "echo", Transport: "tls", Listeners: listen(t), Queue: workertest.NewQueue(t)}
	old := workertest.Start(t, w, o)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	nc := tls.Client(dial(t, old.Addr()).Conn, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	c := client{nc, t}
	c.says("hello")
	workertest.Start(t, w, o)
	old.Drain(patience)
	c.says("still here")
	_ = nc.Close()
	wantEnd(t, old, 0)
}

func TestTLSConfigFailsTheWorker(t *testing.T) {
	t.Parallel()
	w := worker.TLS{
		Protocol: "echo",
		Config:   func(*worker.Env, worker.Socket) (*tls.Config, error) { return nil, errors.New("no key") },
	}
	p := workertest.Prepare(t, w, workertest.Options{Process: "echo", Transport: "tls"})
	if err := p.Wait(); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("Serve: %v", err)
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
