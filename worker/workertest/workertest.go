// Package workertest runs a worker.Worker in a test's own process, with real sockets and a master that the test plays.
package workertest

import (
	"cmp"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker"
	"baton/worker/rawfd"
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
	Queue     *Queue       // of the Workers that give each other their connections; nil: it does not
	Stay      bool         // connections do not move, as with handover = false
	Log       *slog.Logger // nil: to the test's log
}

// A Queue is a line of Processes: those that drain give their connections to those that serve.
type Queue struct {
	mu  sync.Mutex
	all []*Process
}

// NewQueue makes a Queue.
func NewQueue(testing.TB) *Queue { return &Queue{} }

// tell says to all that drain who takes.
func (q *Queue) tell() {
	q.mu.Lock()
	defer q.mu.Unlock()
	var takers []*Process
	for _, p := range q.all {
		if p.state == serving {
			takers = append(takers, p)
		}
	}
	for _, p := range q.all {
		if p.state == draining {
			p.setTakers(takers)
		}
	}
}

// state is how far a Process of a Queue has come.
type state uint8

const (
	starting state = iota
	serving
	draining
)

// become notes how far p has come, in one step with telling it.
func (q *Queue) become(p *Process, s state) {
	if q == nil {
		return
	}
	q.mu.Lock()
	p.state = s
	q.mu.Unlock()
	q.tell()
}

func (p *Process) setTakers(takers []*Process) {
	var m wire.Takers
	var fds []int
	for _, q := range takers {
		takes, address := q.Handover().Takes()
		if len(address) == 0 {
			continue // it takes nothing
		}
		fd, err := rawfd.Dup(address[0])
		if err != nil {
			p.t.Fatal(err)
		}
		m.PIDs, m.Of, m.Sets = append(m.PIDs, q.id), append(m.Of, len(fds)), append(m.Sets, takes.Keys)
		fds = append(fds, fd)
	}
	if err := p.Handover().SetTakers(m, fds); err != nil {
		p.t.Error(err)
	}
}

// Process is a Worker that is being served.
type Process struct {
	*worker.Env
	t      testing.TB
	d      *worker.Director
	addrs  []net.Addr
	served chan error
	queue  *Queue
	id     int   // in queue
	state  state // in queue
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
			Key: name, Group: name, Name: name, Address: addr.String(), Transport: transport,
			Process: cmp.Or(o.Process, "http"), Handover: !o.Stay,
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
	p.Env = p.d.Env()
	if p.queue = o.Queue; p.queue != nil {
		p.queue.mu.Lock()
		p.id = len(p.queue.all) + 1
		p.queue.all = append(p.queue.all, p)
		p.queue.mu.Unlock()
	}
	go func() { p.served <- w.Serve(p.d.Context(), p.Env) }()
	t.Cleanup(p.end)
	return p
}

// dup takes a descriptor such as a master passes it; File would make the socket blocking for all its holders.
func dup(t testing.TB, sock any) int {
	t.Helper()
	fd, err := rawfd.Of(sock)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Addr is the first socket's address.
func (p *Process) Addr() string { return p.addrs[0].String() }

// Go lets the Worker accept.
func (p *Process) Go() {
	p.d.Go()
	p.queue.become(p, serving)
}

// Hang makes p, which is ready and has not been told to go, one that the others of its Queue give their connections to
// and that does not take any, as one that was stopped.
func (p *Process) Hang() {
	p.d.Open()
	p.queue.become(p, serving)
}

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
func (p *Process) Drain(timeout time.Duration) {
	p.queue.become(p, draining)
	p.d.Drain(wire.Drain{Deadline: deadline(timeout)})
}

// DrainEnding begins a drain in which no listener has a successor: their queues are to be emptied.
func (p *Process) DrainEnding(timeout time.Duration) {
	p.queue.become(p, draining)
	m := wire.Drain{Deadline: deadline(timeout)}
	for i := range p.addrs {
		m.Ends = append(m.Ends, "l"+strconv.Itoa(i))
	}
	p.d.Drain(m)
}

// Stop begins a drain, or turns it into one, after which nobody serves.
func (p *Process) Stop(timeout time.Duration) {
	p.queue.become(p, draining)
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
