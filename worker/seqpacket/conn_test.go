package seqpacket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/wire"
)

// note is a message of these tests.
type note struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
}

func (note) Kind() string { return "note" }

// pair is a conversation in one process.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	x, y := rawPair(t)
	return conn(t, x), conn(t, y)
}

func rawPair(t *testing.T) (x, y int) {
	t.Helper()
	x, y, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	return x, y
}

func conn(t *testing.T, fd int) *Conn {
	t.Helper()
	c, err := New(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// pipe is for descriptors that are sent: its read end tells when nobody holds the write end any more.
func pipe(t *testing.T) (r *os.File, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r = os.NewFile(uintptr(p[0]), "pipe")
	t.Cleanup(func() { _ = r.Close() })
	return r, p[1]
}

func closeFD(t *testing.T, fd int) {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Error(err)
	}
}

func recv(t *testing.T, c *Conn) Packet {
	t.Helper()
	p, err := c.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBothWays(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for _, way := range []struct{ from, to *Conn }{{a, b}, {b, a}} {
		if err := way.from.Post(note{Name: "x"}); err != nil {
			t.Fatal(err)
		}
		var got note
		if p := recv(t, way.to); p.Frame.Into(&got) != nil || got.Name != "x" || len(p.FDs) != 0 {
			t.Errorf("%+v", p)
		}
	}
}

func TestDescriptorsArriveCloseOnExec(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	r, w := pipe(t)
	if err := a.Post(note{Name: "two"}, w, w); err != nil {
		t.Fatal(err)
	}
	closeFD(t, w)
	p := recv(t, b)
	if len(p.FDs) != 2 {
		t.Fatalf("%d descriptors", len(p.FDs))
	}
	for _, fd := range p.FDs {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d: flags %x, %v", fd, flags, err)
		}
	}
	first := p.TakeFD()
	p.Close()
	if _, err := unix.Write(first, []byte("hi")); err != nil {
		t.Error("what was taken was closed:", err)
	}
	closeFD(t, first)
	if b, err := io.ReadAll(r); err != nil || string(b) != "hi" {
		t.Errorf("%q, %v", b, err)
	}
	if p.TakeFD() != -1 {
		t.Error("a third descriptor")
	}
}

func TestNewAndDupLeaveTheDescriptionNonBlocking(t *testing.T) {
	t.Parallel()
	x, y := rawPair(t)
	d, err := rawfd.Dup(y)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(t, d)
	_, _ = conn(t, x), conn(t, y)
	if flags, err := unix.FcntlInt(uintptr(d), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %x, %v", flags, err)
	}
	if flags, err := unix.FcntlInt(uintptr(d), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("descriptor flags %x, %v", flags, err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if c, err := New(-1); err == nil {
		t.Errorf("%v of no descriptor", c)
	}
	r, w := pipe(t)
	if c, err := New(w); err == nil {
		t.Errorf("%v of a pipe", c)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("New failed and kept its descriptor: %v", err)
	}
}

func TestDeathIsEOF(t *testing.T) {
	t.Parallel()
	for name, said := range map[string][]wire.Message{
		"nothing unread": nil,
		"unread":         {wire.Ready{}}, // the kernel says ECONNRESET then
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			for _, m := range said {
				if err := a.Post(m); err != nil {
					t.Fatal(err)
				}
			}
			_ = b.Close()
			if p, err := a.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("%+v, %v", p, err)
			}
			if err := a.Post(wire.Ready{}); err == nil {
				t.Error("the dead take messages")
			}
		})
	}
}

func TestWhatWasSaidBeforeDeathArrives(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for i := range 3 {
		if err := a.Post(note{PID: i}); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.Close()
	for i := range 3 {
		wantNote(t, b, i)
	}
	if _, err := b.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func TestCloseWakesRecvAndEndsPost(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	failed := make(chan error)
	go func() { _, err := a.Recv(); failed <- err }()
	_ = a.Close()
	if err := <-failed; err == nil {
		t.Error("Recv of a closed conversation")
	}
	if err := a.Post(wire.Ready{}); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func wantNote(t *testing.T, c *Conn, pid int) {
	t.Helper()
	var m note
	p := recv(t, c)
	if err := p.Frame.Into(&m); err != nil || m.PID != pid {
		t.Fatalf("got %d, want %d (%v)", m.PID, pid, err)
	}
}

// padding makes messages that soon fill the socket.
var padding = strings.Repeat("x", 8<<10)

// fillSocket posts until messages are queued in the process, and returns how many there are in all.
func fillSocket(t *testing.T, c *Conn) int {
	t.Helper()
	for n := 0; ; n++ {
		if !c.Idle() {
			return n
		}
		post(t, c, n)
	}
}

func post(t *testing.T, c *Conn, n int) {
	t.Helper()
	if err := c.Post(note{Name: fmt.Sprintf("%d %s", n, padding)}); err != nil {
		t.Fatal(err)
	}
}

func wantNumbered(t *testing.T, c *Conn, n int) {
	t.Helper()
	var m note
	p := recv(t, c)
	if err := p.Frame.Into(&m); err != nil || m.Name != fmt.Sprintf("%d %s", n, padding) {
		t.Fatalf("message %d: %.20q, %v", n, m.Name, err)
	}
}

// The peer does not read while 200 messages beyond what the socket takes are posted.
func TestPostDoesNotWaitAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	n := fillSocket(t, a)
	for range 200 {
		post(t, a, n)
		n++
	}
	for i := range n {
		wantNumbered(t, b, i)
	}
	a.Flush()
	post(t, a, n) // directly again
	wantNumbered(t, b, n)
}

func TestQueuedDescriptorsAreDuplicates(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	n := fillSocket(t, a)
	r, w := pipe(t)
	if err := a.Post(note{Name: "late"}, w); err != nil {
		t.Fatal(err)
	}
	closeFD(t, w)
	for i := range n {
		wantNumbered(t, b, i)
	}
	p := recv(t, b)
	fd := p.TakeFD()
	if _, err := unix.Write(fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
	closeFD(t, fd)
	a.Flush()
	if got, err := io.ReadAll(r); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestFlushWaitsForTheReader(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	n := fillSocket(t, a)
	read := make(chan int)
	go func() {
		got := 0
		for range n {
			if _, err := b.Recv(); err == nil {
				got++
			}
		}
		read <- got
	}()
	a.Flush()
	_ = a.Close()
	if got := <-read; got != n {
		t.Errorf("%d of %d messages arrived before the end", got, n)
	}
}

func TestFlushEndsWithThePeer(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	fillSocket(t, a)
	r, w := pipe(t)
	if err := a.Post(note{}, w); err != nil {
		t.Fatal(err)
	}
	closeFD(t, w)
	_ = b.Close()
	a.Flush()
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a descriptor was kept for the dead: %v", err)
	}
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	err := error(nil)
	for n := 0; err == nil && n < 100*maxQueue; n++ {
		err = a.Post(wire.Ready{})
	}
	if !errors.Is(err, ErrBacklog) {
		t.Fatal(err)
	}
	_ = b.Close()
	a.Flush()
}

func TestTooManyDescriptorsAreAnErrorAndLeakNone(t *testing.T) {
	t.Parallel()
	x, y := rawPair(t)
	defer closeFD(t, x)
	b := conn(t, y)
	r, w := pipe(t)
	fds := make([]int, 253) // more than MaxFDs, as many as the kernel takes
	for i := range fds {
		fds[i] = w
	}
	data, err := wire.Encode(wire.Ready{})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Sendmsg(x, data, unix.UnixRights(fds...), nil, 0); err != nil {
		t.Fatal(err)
	}
	closeFD(t, w)
	if p, err := b.Recv(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("%d descriptors, %v", len(p.FDs), err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("descriptors of a message that was refused are open: %v", err)
	}
}

func TestAsManyDescriptorsAsAllowed(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	r, w := pipe(t)
	fds := make([]int, wire.MaxFDs)
	for i := range fds {
		fds[i] = w
	}
	if err := a.Post(wire.Ready{}, fds...); err != nil {
		t.Fatal(err)
	}
	closeFD(t, w)
	p := recv(t, b)
	if len(p.FDs) != wire.MaxFDs {
		t.Errorf("%d descriptors", len(p.FDs))
	}
	p.Close()
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
}

func TestRecvRefusesWhatIsNoMessage(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"no JSON":  "hello",
		"no kind":  "{}",
		"too long": `{"v":1,"t":"` + strings.Repeat("x", wire.MaxFrame) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x, y := rawPair(t)
			defer closeFD(t, x)
			b := conn(t, y)
			r, w := pipe(t)
			if err := unix.Sendmsg(x, []byte(data), unix.UnixRights(w), nil, 0); err != nil {
				t.Fatal(err)
			}
			closeFD(t, w)
			if p, err := b.Recv(); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("%+v, %v", p, err)
			}
			if _, err := r.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("its descriptor is open: %v", err)
			}
		})
	}
}

func TestMessageBeyondTheLimitIsNotSent(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	if err := a.Post(note{Name: strings.Repeat("x", wire.MaxFrame)}); err == nil {
		t.Error("it was taken")
	}
	if err := a.Post(note{PID: 7}); err != nil {
		t.Fatal(err)
	}
	wantNote(t, b, 7)
}

func TestPeerPID(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	if pid, err := a.PeerPID(); err != nil || pid != os.Getpid() {
		t.Errorf("%d, %v", pid, err)
	}
}
