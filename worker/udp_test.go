package worker_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"baton/worker"
	"baton/worker/echo"
	"baton/worker/workertest"
)

var echoUDP = worker.UDP{Process: echo.Process{}, Protocol: "echo"}

func listenUDP(t *testing.T) workertest.Options {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return workertest.Options{Process: "echo", Packets: []net.PacketConn{pc}}
}

func dialUDP(t *testing.T, addr string) client {
	t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return client{c, t}
}

func TestUDPWaitsForGo(t *testing.T) {
	t.Parallel()
	p := workertest.Prepare(t, echoUDP, listenUDP(t))
	p.AwaitReady()
	c := dialUDP(t, p.Addr())
	c.send("early")
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before GO: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	p.Go()
	c.want("early")
	p.Drain(patience)
	wantEnd(t, p, 0)
	if n := p.Counters.Requests.Load(); n != 1 {
		t.Errorf("%d datagrams answered", n)
	}
}

// TestUDPOverGenerations: every datagram is answered, at a rate that the socket's buffer can take.
func TestUDPOverGenerations(t *testing.T) {
	t.Parallel()
	o := listenUDP(t)
	old := workertest.Start(t, echoUDP, o)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan error)
	c := dialUDP(t, old.Addr())
	go func() { done <- count(ctx, c) }()
	for range 20 {
		next := workertest.Start(t, echoUDP, o)
		old.Drain(patience)
		wantEnd(t, old, 0)
		old = next
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// count sends numbers, 32 of them ahead of their answers, until ctx ends, and wants all of them back.
func count(ctx context.Context, c net.Conn) error {
	back := map[uint64]bool{}
	b := make([]byte, 8)
	for sent := uint64(0); ; {
		for ; sent < uint64(len(back))+32 && ctx.Err() == nil; sent++ {
			if _, err := c.Write(binary.BigEndian.AppendUint64(nil, sent)); err != nil {
				return err
			}
		}
		if uint64(len(back)) == sent {
			return nil
		}
		if _, err := c.Read(b); err != nil {
			return err
		}
		n := binary.BigEndian.Uint64(b)
		if back[n] || n >= sent {
			return errors.New("an answer that nobody has asked for")
		}
		back[n] = true
	}
}

// slowly is an echo whose answers wait for a word.
type slowly struct{ reading, word chan struct{} }

func (s slowly) ServePackets(ctx context.Context, pc net.PacketConn) error {
	return echo.Process{}.ServePackets(ctx, slowConn{pc, s})
}

type slowConn struct {
	net.PacketConn
	slowly
}

func (c slowConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.reading <- struct{}{}
	<-c.word
	return c.PacketConn.WriteTo(b, to)
}

// TestUDPAnswersWhatItHasRead: after the drain has begun, and what is queued only if nobody else will.
func TestUDPAnswersWhatItHasRead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		drain func(*workertest.Process)
		want  int64
	}{
		{"reload", func(p *workertest.Process) { p.Drain(patience) }, 1},
		{"the address goes", func(p *workertest.Process) { p.DrainEnding(patience) }, 10},
		{"stop", func(p *workertest.Process) { p.Stop(patience) }, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := slowly{reading: make(chan struct{}, 10), word: make(chan struct{})}
			p := workertest.Start(t, worker.UDP{Process: s, Protocol: "echo"}, listenUDP(t))
			c := dialUDP(t, p.Addr())
			for range 10 {
				c.send("hello")
			}
			<-s.reading // the first was read
			test.drain(p)
			close(s.word)
			for range test.want {
				c.want("hello")
			}
			wantEnd(t, p, 0)
			if n := p.Counters.Requests.Load(); n != test.want {
				t.Errorf("%d datagrams answered, want %d", n, test.want)
			}
		})
	}
}

func TestUDPIsCutAtTheDeadline(t *testing.T) {
	t.Parallel()
	s := slowly{reading: make(chan struct{}, 10), word: make(chan struct{})}
	p := workertest.Start(t, worker.UDP{Process: s, Protocol: "echo"}, listenUDP(t))
	dialUDP(t, p.Addr()).send("hello")
	<-s.reading
	p.Drain(0)
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	close(s.word)
}

// brief is a PacketProcess that returns at once.
type brief struct{ err error }

func (b brief) ServePackets(context.Context, net.PacketConn) error { return b.err }

func TestUDPProcessMustNotReturnEarly(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("no dictionary"), net.ErrClosed} {
		p := workertest.Start(t, worker.UDP{Process: brief{err}, Protocol: "echo"}, listenUDP(t))
		if got := p.Wait(); got == nil || err != nil && !errors.Is(got, err) {
			t.Errorf("the process returned %v, Serve %v", err, got)
		}
	}
}

// TestPacketConn: what a Worker of one's own gets.
func TestPacketConn(t *testing.T) {
	t.Parallel()
	got := make(chan error, 1)
	p := workertest.Start(t, worker.Func(func(_ context.Context, env *worker.Env) error {
		if _, err := env.Listener("l0"); err == nil || !strings.Contains(err.Error(), "l0") {
			t.Errorf("a UDP socket as a listener: %v", err)
		}
		pc, err := env.PacketConn("l0")
		if err != nil {
			return err
		}
		env.Ready()
		_ = pc.SetDeadline(time.Now().Add(10 * time.Millisecond))
		_, _, err = pc.ReadFrom(make([]byte, 10))
		got <- err
		_ = pc.SetDeadline(time.Time{})
		_, _, err = pc.ReadFrom(make([]byte, 10))
		_ = pc.SetReadDeadline(time.Time{}) // too late to matter
		_, _, again := pc.ReadFrom(make([]byte, 10))
		got <- errors.Join(err, again)
		return pc.Close()
	}), listenUDP(t))
	if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the user's deadline: %v", err)
	}
	p.Drain(patience)
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the drain: %v", err)
	}
	wantEnd(t, p, 0)
}

// TestUDPAnswersFromTheAddressAsked: a client of a socket that is bound to all addresses is answered from the one that
// it wrote to, or its resolver, firewall or connected socket drops the answer.
func TestUDPAnswersFromTheAddressAsked(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"udp4", "udp"} { // udp: of both families, if the machine has IPv6
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			pc, err := net.ListenPacket(network, ":0")
			if err != nil {
				t.Fatal(err)
			}
			p := workertest.Start(t, echoUDP, workertest.Options{Process: "echo", Packets: []net.PacketConn{pc}})
			_, port, _ := net.SplitHostPort(p.Addr())
			connected := dialUDP(t, net.JoinHostPort("127.0.0.2", port)) // hears nobody else
			connected.send("hello")
			connected.want("hello")
			p.Drain(patience)
			wantEnd(t, p, 0)
		})
	}
}

// TestUDPAnswersFromTheAddressAskedInTheDrain: what lies in the queue at the end is answered as well.
func TestUDPAnswersFromTheAddressAskedInTheDrain(t *testing.T) {
	t.Parallel()
	pc, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	p := workertest.Prepare(t, echoUDP, workertest.Options{Process: "echo", Packets: []net.PacketConn{pc}})
	p.AwaitReady()
	_, port, _ := net.SplitHostPort(p.Addr())
	connected := dialUDP(t, net.JoinHostPort("127.0.0.2", port))
	connected.send("hello")
	p.DrainEnding(patience)
	connected.want("hello")
	wantEnd(t, p, 0)
}
