package handover

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// The tests of this file are the rows of the table in the package's documentation.

// receiver reads an inbox, one step of the protocol for each line of its input.
func receiver() int {
	conn, err := seqpacket.New(3)
	if err != nil {
		return 1
	}
	var conns seqpacket.Packet
	var ack int
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "read":
			conns, ack, err = openParcel(conn)
			fmt.Println("read", len(conns.FDs), err)
		case "ack":
			taken := make([]bool, len(conns.FDs))
			for i := range taken {
				taken[i] = true
			}
			fmt.Println("owner", claim(ack, taken))
		case "let go":
			conns.Close()
			_ = unix.Close(ack)
			fmt.Println("gone")
		case "stop taking":
			_ = conn.Close()
			fmt.Println("stopped")
		}
	}
	return 0
}

// sender offers one connection.
func sender() int {
	x := New(slog.New(slog.DiscardHandler))
	if err := x.SetTakers(wire.Takers{PIDs: []int{1}, Of: []int{0}, Sets: []wire.KeySet{keySet(key("k"))}},
		[]int{3}); err != nil {
		return 1
	}
	x.Give(Offer{Conn: Conn{FD: 4, Key: key("k")}, Done: func(taken bool) { fmt.Println("taken", taken) }})
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// inLine is a receiver that is another process, the only one that reads its inbox, and another taker behind it.
type inLine struct {
	*child
	giver *Handover
	c     clients
	taken <-chan bool
	other chan Conn
}

// offered gives one connection, with something to read, to the receiver first, and then to the other if there is one.
func offered(t *testing.T, withOther bool) inLine {
	t.Helper()
	give, take, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	to := []pair{{give, take}}
	l := inLine{child: startChild(t, "receiver", take), c: connect(t, 1)}
	if withOther {
		q := newPair(t)
		_, l.other = q.taking(t, "k")
		to = append(to, q)
	}
	l.giver = givingTo(t, to...)
	rawfd.CloseAll([]int{give, take})
	l.c.say(t, 0, "hello")
	l.taken = l.c.giving(l.giver, 0, "k", 0)
	return l
}

// read has the receiver read the offer.
func (l inLine) read(t *testing.T) inLine {
	t.Helper()
	l.tell(t, "read")
	l.hear(t, "read 1 <nil>")
	return l
}

func (l inLine) signal(t *testing.T, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(l.Process.Pid, sig); err != nil {
		t.Fatal(err)
	}
}

// claims has the receiver try to become the owner.
func (c *child) claims(t *testing.T, owner bool) {
	t.Helper()
	c.tell(t, "ack")
	c.hear(t, fmt.Sprint("owner ", owner))
}

// TestReceiverBeforeItsAck: whatever happens to the receiver before its ack, the connection is the sender's, within the
// limit, and goes to another taker if there is one. Once it is withdrawn, no ack makes it anybody else's.
func TestReceiverBeforeItsAck(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(t *testing.T, l inLine){
		"killed":       func(t *testing.T, l inLine) { l.signal(t, unix.SIGKILL) },
		"stopped":      func(t *testing.T, l inLine) { l.signal(t, unix.SIGSTOP) },
		"slow":         func(*testing.T, inLine) {},
		"stops taking": func(t *testing.T, l inLine) { l.tell(t, "stop taking"); l.hear(t, "stopped") },
		"lets go":      func(t *testing.T, l inLine) { l.tell(t, "let go"); l.hear(t, "gone") },
	} {
		for _, read := range []bool{false, true} {
			for _, withOther := range []bool{false, true} {
				if name == "lets go" && !read || name == "stops taking" && read {
					continue
				}
				t.Run(fmt.Sprint(name, ", read ", read, ", another ", withOther), func(t *testing.T) {
					t.Parallel()
					l := offered(t, withOther)
					if read {
						l.read(t)
					}
					happens(t, l)
					want(t, l.taken, withOther)
					if withOther {
						got := receive(t, l.other)
						wantWords(t, got.FD, "hello")
						_ = unix.Close(got.FD)
					} else {
						wantWords(t, l.c.fds[0], "hello")
					}
					if name != "stopped" && name != "slow" {
						return
					}
					l.signal(t, unix.SIGCONT)
					if !read { // the offer lies there still, the connection does not
						l.tell(t, "read")
						l.hear(t, "read 0 EOF")
					}
					l.claims(t, false)
				})
			}
		}
	}
}

// TestWithdrawnIsInNoQueue: a client whose connection was offered to a worker that is stopped, and was then closed,
// sees the end of it.
func TestWithdrawnIsInNoQueue(t *testing.T) {
	t.Parallel()
	give, take, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	l := inLine{child: startChild(t, "receiver", take), c: connect(t, 1)}
	l.signal(t, unix.SIGSTOP)
	l.giver = givingTo(t, pair{give, take})
	rawfd.CloseAll([]int{give, take})
	want(t, l.c.giving(l.giver, 0, "k", 0), false)
	nothing := newPair(t)
	if err := unix.Dup3(nothing.give, l.c.fds[0], unix.O_CLOEXEC); err != nil { // which closes the connection
		t.Fatal(err)
	}
	_ = l.c.conns[0].SetReadDeadline(time.Now().Add(patience))
	if n, err := l.c.conns[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestReceiverAfterItsAck: the connection is its own, whatever happens then.
func TestReceiverAfterItsAck(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]unix.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := offered(t, true).read(t)
			l.claims(t, true)
			l.signal(t, sig)
			want(t, l.taken, true)
			if len(l.other) != 0 {
				t.Error("another has it as well")
			}
		})
	}
}

// TestSender: whatever happens to the sender after it has sent, who reads the offer within the limit takes the
// connection.
func TestSender(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]unix.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP, "slow": 0} {
		for _, read := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", read ", read), func(t *testing.T) {
				t.Parallel()
				q, c := newPair(t), connect(t, 1)
				from, to := startChild(t, "sender", q.give, c.fds[0]), startChild(t, "receiver", q.take)
				awaitReadable(t, q.take)
				l := inLine{child: to}
				if read {
					l.read(t)
				}
				if err := unix.Kill(from.Process.Pid, sig); err != nil {
					t.Fatal(err)
				}
				if sig == unix.SIGKILL {
					_ = from.Wait()
				}
				if !read {
					l.read(t)
				}
				l.claims(t, true)
				if sig != unix.SIGKILL {
					_ = unix.Kill(from.Process.Pid, unix.SIGCONT)
					from.hear(t, "taken true")
				}
			})
		}
	}
}

// TestSenderDiesWithdrawing: who says "withdrawn" and dies was the owner; nobody takes it afterwards.
func TestSenderDiesWithdrawing(t *testing.T) {
	t.Parallel()
	for _, shut := range []bool{false, true} {
		ours, theirs := ackSocket(t)
		if err := unix.Sendmsg(ours, withdrawnFrame, nil, nil, 0); err != nil {
			t.Fatal(err)
		}
		if shut {
			_ = unix.Shutdown(ours, unix.SHUT_RD)
		}
		_ = unix.Close(ours)
		if claim(theirs, []bool{true}) {
			t.Error("taken from a sender that has kept it, shut ", shut)
		}
		_ = unix.Close(theirs)
	}
}

// TestAckBetweenWithdrawnAndShut: an ack that comes before the shutdown counts.
func TestAckBetweenWithdrawnAndShut(t *testing.T) {
	t.Parallel()
	ours, theirs := ackSocket(t)
	if err := unix.Sendmsg(ours, withdrawnFrame, nil, nil, 0); err != nil {
		t.Fatal(err)
	}
	if !claim(theirs, []bool{true}) {
		t.Error("the ack was refused")
	}
	_ = unix.Close(theirs) // with "withdrawn" unread
	p := sent(ours)
	defer p.close()
	if n := p.withdraw(make([]byte, 1000)); n == 0 {
		t.Error("the sender has not seen the ack")
	}
}

// TestWithdrawMeetsClaim: at whatever moment both act, there is one owner.
func TestWithdrawMeetsClaim(t *testing.T) {
	t.Parallel()
	var owners [2]int
	for i := range 5000 {
		ours, theirs := ackSocket(t)
		p := sent(ours)
		var claimed bool
		var n int
		var both sync.WaitGroup
		start := make(chan struct{})
		both.Go(func() {
			<-start
			for range i % 50 {
				_, _ = unix.Getpid(), i
			}
			claimed = claim(theirs, []bool{true})
			_ = unix.Close(theirs)
		})
		both.Go(func() { <-start; n = p.withdraw(make([]byte, 1000)) })
		close(start)
		both.Wait()
		p.close()
		if claimed != (n > 0) {
			t.Fatalf("claimed: %v, and the sender has read an ack of %d bytes", claimed, n)
		}
		if claimed {
			owners[1]++
		} else {
			owners[0]++
		}
	}
	if owners[0] == 0 || owners[1] == 0 {
		t.Logf("one of the two was always first: %v", owners)
	}
}

// sent is a parcel without a box.
func sent(ack int) *parcel { return &parcel{box: -1, ack: os.NewFile(uintptr(ack), "ack")} }

func ackSocket(t *testing.T) (ours, theirs int) {
	t.Helper()
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func awaitReadable(t *testing.T, fd int) {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, int(patience.Milliseconds()))
		if n == 1 {
			return
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatalf("nothing to read: %v", err)
		}
	}
}
