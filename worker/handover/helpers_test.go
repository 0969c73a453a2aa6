package handover

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// patience is long enough for whatever a test waits for: it ends tests that fail.
const patience = 20 * time.Second

// childEnv says what the test binary is to be instead: see children.
const childEnv = "HANDOVER_TEST_CHILD"

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv(childEnv)]; ok {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// pair is an inbox, of which the test holds both ends.
type pair struct {
	give, take int
}

func newPair(t *testing.T) pair {
	t.Helper()
	give, take, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(give), unix.Close(take) })
	return pair{give, take}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	d, err := rawfd.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// key is that of a listener in the tests.
func key(name string) Key { return Key{Group: "tcp/80", Process: "http", Name: name} }

func keySet(keys ...Key) wire.KeySet { return wire.NewKeySet(slices.Values(keys)) }

// putParcel puts a parcel into an inbox: a message with copies of fds in its box, and the ack socket.
func putParcel(t *testing.T, inbox int, data []byte, fds []int, ack int) {
	t.Helper()
	in, box, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	defer rawfd.CloseAll([]int{in, box})
	if err := rawfd.Send(in, data, unix.UnixRights(fds...)); err != nil {
		t.Fatal(err)
	}
	if err := rawfd.Send(inbox, offerFrame, unix.UnixRights(box, ack)); err != nil {
		t.Fatal(err)
	}
}

// openParcel reads a parcel: the connections, and the ack socket.
func openParcel(inbox *seqpacket.Conn) (conns seqpacket.Packet, ack int, err error) {
	p, err := inbox.Recv()
	if err != nil {
		return conns, -1, err
	}
	conns, err = seqpacket.Receive(p.FDs[0])
	_ = unix.Close(p.FDs[0])
	return conns, p.FDs[1], err
}

// exchange is a Handover that gives to an inbox whatever came by the keys "k" and "other".
func (q pair) exchange(t *testing.T) *Handover {
	t.Helper()
	return givingTo(t, q)
}

// givingTo is a Handover that gives to several inboxes.
func givingTo(t *testing.T, to ...pair) *Handover {
	t.Helper()
	x := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	setTakers(t, x, to...)
	t.Cleanup(func() {
		x.Withdraw()
		setTakers(t, x)
	})
	return x
}

func setTakers(t *testing.T, x *Handover, to ...pair) {
	t.Helper()
	m := wire.Takers{Sets: []wire.KeySet{keySet(key("k"), key("other"))}}
	var fds []int
	for _, q := range to {
		m.PIDs, m.Of, fds = append(m.PIDs, q.take), append(m.Of, 0), append(fds, dup(t, q.give))
	}
	if err := x.SetTakers(m, fds); err != nil {
		t.Fatal(err)
	}
}

// taking is a Handover that reads an inbox, takes what came by a key, and passes it on.
func (q pair) taking(t *testing.T, name string) (*Handover, chan Conn) {
	t.Helper()
	x, got := New(slog.New(slog.NewTextHandler(t.Output(), nil))), make(chan Conn, 10_000)
	x.Register(key(name), func(c Conn) { got <- c })
	if err := x.openOn(dup(t, q.take)); err != nil {
		t.Fatal(err)
	}
	x.Start()
	t.Cleanup(x.Stop)
	return x, got
}

// openOn has the Handover read an inbox that is there.
func (h *Handover) openOn(fd int) (err error) {
	if h.inbox, err = seqpacket.New(fd); err != nil {
		return err
	}
	h.phase = phaseOpen
	return nil
}

// clients are TCP connections: the far ends, and for each the descriptor that a server has.
type clients struct {
	conns []net.Conn
	fds   []int
}

func connect(t *testing.T, n int) clients {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	var c clients
	for range n {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		s, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := rawfd.Of(s)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
		c.conns, c.fds = append(c.conns, conn), append(c.fds, fd)
	}
	t.Cleanup(func() { rawfd.CloseAll(c.fds) })
	return c
}

// say has client i send words.
func (c clients) say(t *testing.T, i int, words string) {
	t.Helper()
	if _, err := io.WriteString(c.conns[i], words); err != nil {
		t.Fatal(err)
	}
}

// giving gives connection i away under a key.
func (c clients) giving(x *Handover, i int, name string, idle time.Duration) <-chan bool {
	answer := make(chan bool, 2)
	x.Give(Offer{Conn: Conn{FD: c.fds[i], Key: key(name), Idle: idle}, Done: func(taken bool) { answer <- taken }})
	return answer
}

func want(t *testing.T, answer <-chan bool, taken bool) {
	t.Helper()
	select {
	case got := <-answer:
		if got != taken {
			t.Errorf("taken: %v, want %v", got, taken)
		}
	case <-time.After(patience):
		t.Fatal("no answer")
	}
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("not reached")
	}
}

// wantWords reads what waits in a connection.
func wantWords(t *testing.T, fd int, words string) {
	t.Helper()
	b := make([]byte, 1000)
	n, err := unix.Read(fd, b)
	if err != nil || string(b[:n]) != words {
		t.Errorf("read %q, %v, want %q", b[:max(n, 0)], err, words)
	}
}

// child is the test binary as another process, which has an end of a queue.
type child struct {
	*exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func startChild(t *testing.T, name string, fds ...int) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &child{Cmd: exec.Command(exe)}
	c.Env = append(os.Environ(), childEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	c.Stderr = t.Output()
	for _, fd := range fds {
		f := os.NewFile(uintptr(dup(t, fd)), "passed")
		defer func() { _ = f.Close() }()
		c.ExtraFiles = append(c.ExtraFiles, f)
	}
	c.in, err = c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

func (c *child) tell(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		t.Fatal(err)
	}
}

func (c *child) hear(t *testing.T, want string) {
	t.Helper()
	if line, err := c.out.ReadString('\n'); err != nil || line != want+"\n" {
		t.Fatalf("the child says %q, %v, want %q", line, err, want)
	}
}
