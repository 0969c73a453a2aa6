// Package workertest runs a worker.Worker in a test's own process, with real sockets and a master that the test plays.
package workertest

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker"
	"baton/worker/handover"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// limit is how long a test waits for what must come.
const limit = 20 * time.Second

// Options says what the Worker is given. Its zero value is one TCP listener on a free port.
type Options struct {
	Listeners []net.Listener   // *net.TCPListener or *net.UnixListener; they are closed at the test's end
	Packets   []net.PacketConn // *net.UDPConn; they are closed at the test's end
	Transport string           // of the Listeners; "": tcp
	Process   string           // of all sockets; "": http
	Payload   []byte
	Tickets   [][]byte     // keys of TLS session tickets, as Processes of one tree have in common
	Queue     *Queue       // that the Worker gives connections to, and takes them from; nil: it does neither
	Stay      bool         // connections do not move, as with handover = false
	Log       *slog.Logger // nil: to the test's log
}

// A Queue is a hand-over queue, for several Processes.
type Queue struct{ give, take int }

// NewQueue makes a Queue, which is closed at the test's end.
func NewQueue(t testing.TB) *Queue {
	t.Helper()
	give, take, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(give), unix.Close(take) })
	return &Queue{give, take}
}

func (q *Queue) exchange(t testing.TB, log *slog.Logger) *handover.Exchange {
	t.Helper()
	give, err1 := unix.FcntlInt(uintptr(q.give), unix.F_DUPFD_CLOEXEC, 3)
	take, err2 := unix.FcntlInt(uintptr(q.take), unix.F_DUPFD_CLOEXEC, 3)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	x, err := handover.New(give, take, log)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Process is a Worker that is being served.
type Process struct {
	*worker.Env
	t      testing.TB
	d      *worker.Director
	addrs  []net.Addr
	served chan error
}

// Start serves w up to the moment that it may accept. The test's end cuts what is left.
func Start(t testing.TB, w worker.Worker, o Options) *Process {
	t.Helper()
	p := Prepare(t, w, o)
	p.AwaitReady()
	p.Go()
	return p
}

// Prepare serves w, which is not told to go.
func Prepare(t testing.TB, w worker.Worker, o Options) *Process {
	t.Helper()
	if o.Listeners == nil && o.Packets == nil {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listeners = []net.Listener{ln}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	setup := wire.Setup{Generation: 1, Version: "test", Tickets: o.Tickets}
	p := &Process{t: t, served: make(chan error, 1)}
	var fds []int
	add := func(sock any, addr net.Addr, transport string) {
		name := "l" + strconv.Itoa(len(fds))
		setup.Listeners = append(setup.Listeners, wire.Listener{
			Key: name, Group: name, Name: name, Address: addr.String(), Transport: transport, Process: cmp.Or(o.Process, "http"), Handover: !o.Stay,
		})
		fds = append(fds, dup(t, sock))
		p.addrs = append(p.addrs, addr)
	}
	for _, ln := range o.Listeners {
		t.Cleanup(func() { _ = ln.Close() })
		add(ln, ln.Addr(), cmp.Or(o.Transport, "tcp"))
	}
	for _, pc := range o.Packets {
		t.Cleanup(func() { _ = pc.Close() })
		add(pc, pc.LocalAddr(), "udp")
	}
	p.d = worker.NewDirector(setup, fds, o.Payload, o.Log)
	if o.Queue != nil {
		p.d.Exchange(o.Queue.exchange(t, o.Log))
	}
	p.Env = p.d.Env()
	go func() { p.served <- w.Serve(p.d.Context(), p.Env) }()
	t.Cleanup(p.end)
	return p
}

// dup takes a descriptor such as a master passes it; File would make the socket blocking for all its holders.
func dup(t testing.TB, sock any) int {
	t.Helper()
	raw, err := sock.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	_ = raw.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 3) })
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Addr is the first socket's address.
func (p *Process) Addr() string { return p.addrs[0].String() }

// Go lets the Worker accept.
func (p *Process) Go() { p.d.Go() }

// Said is closed when the Worker has said that it is ready.
func (p *Process) Said() <-chan struct{} { return p.d.Ready() }

// AwaitReady waits until the Worker has said that it is ready.
func (p *Process) AwaitReady() {
	p.t.Helper()
	select {
	case <-p.d.Ready():
	case err := <-p.served:
		p.served <- err
		p.t.Fatalf("worker: Serve returned before Ready: %v", err)
	case <-time.After(limit):
		p.t.Fatal("worker: not ready")
	}
}

// Drain begins a drain as a reload does, or moves its deadline closer.
func (p *Process) Drain(timeout time.Duration) { p.d.Drain(wire.Drain{Deadline: deadline(timeout)}) }

// DrainEnding begins a drain in which no listener has a successor: their queues are to be emptied.
func (p *Process) DrainEnding(timeout time.Duration) {
	m := wire.Drain{Deadline: deadline(timeout)}
	for i := range p.addrs {
		m.Ends = append(m.Ends, "l"+strconv.Itoa(i))
	}
	p.d.Drain(m)
}

// Stop begins a drain, or turns it into one, after which nobody serves.
func (p *Process) Stop(timeout time.Duration) {
	p.d.Drain(wire.Drain{Deadline: deadline(timeout), Stop: true})
}

// Wait returns what Serve returned.
func (p *Process) Wait() error {
	p.t.Helper()
	select {
	case err := <-p.served:
		p.served <- err
		return err
	case <-time.After(limit):
		p.t.Fatal("worker: Serve did not return")
		return nil
	}
}

// Serving reports whether Serve has not returned.
func (p *Process) Serving() bool { return len(p.served) == 0 }

func (p *Process) end() {
	p.Stop(0)
	_ = p.Wait()
}

func deadline(timeout time.Duration) int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano() + int64(timeout)
}
