package handover

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// FuzzTake: whatever lies in a box, with however many descriptors, is taken and acknowledged or goes back by
// end-of-file; and what is not taken is closed.
func FuzzTake(f *testing.F) {
	good, err := wire.Encode(wire.Handover{
		Keys:  []Key{key("k"), key("x")},
		Conns: []wire.HandoverConn{{0, 1000}, {1, 5}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, uint8(2))
	f.Add(good, uint8(1))
	f.Add([]byte(`{"v":1,"t":"handover","m":{"keys":[{"g":"tcp/80","p":"http","n":"k"}],"conns":[[0,9e18]]}}`),
		uint8(1))
	f.Add([]byte("x"), uint8(200))
	f.Fuzz(func(t *testing.T, data []byte, n uint8) {
		before := openFiles()
		give, take, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		q := pair{give, take}
		x, got := q.taking(t, "k")
		ours, theirs, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		fds := make([]int, min(int(n), wire.MaxFDs))
		for i := range fds {
			fds[i] = theirs // any descriptor is one to be passed on
		}
		if len(data) > 0 && len(data) <= wire.MaxFrame {
			putParcel(t, give, data, fds, theirs)
		}
		_ = unix.Close(theirs)
		if len(data) > 0 && len(data) <= wire.MaxFrame {
			taken := wantAnswer(t, ours, len(fds))
			for range taken {
				_ = unix.Close(receive(t, got).FD)
			}
		}
		x.Stop()
		rawfd.CloseAll([]int{give, take, ours})
		for begin := time.Now(); openFiles() != before; time.Sleep(time.Millisecond) {
			if time.Since(begin) > patience {
				t.Fatalf("%d descriptors before, %d after", before, openFiles())
			}
		}
	})
}

// wantAnswer waits for an ack, or for the end of its socket, and returns how many were taken.
func wantAnswer(t *testing.T, fd, conns int) (taken int) {
	t.Helper()
	awaitReadable(t, fd)
	buf := make([]byte, wire.MaxFrame)
	n, err := unix.Read(fd, buf)
	if err != nil || n == 0 {
		return 0
	}
	frame, err := wire.Decode(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	var ack wire.Ack
	if err := frame.Into(&ack); err != nil || len(ack.Taken) != conns {
		t.Fatalf("%d connections: %+v, %v", conns, ack, err)
	}
	for _, ok := range ack.Taken {
		if ok {
			taken++
		}
	}
	return taken
}

// FuzzAck: whatever is answered to an offer, every connection of it is settled once, and its descriptor is still the
// giver's.
func FuzzAck(f *testing.F) {
	f.Add([]byte(`{"v":1,"t":"ack","m":{"taken":[true,false]}}`))
	f.Add([]byte(`{"v":1,"t":"ack","m":{"taken":[true,true,true,true,true]}}`))
	f.Add([]byte(`{"v":1,"t":"ack","m":{"taken":[]}}`))
	f.Add([]byte(`{"v":1,"t":"go"}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if len(answer) == 0 || len(answer) > wire.MaxFrame {
			return
		}
		q := newPair(t)
		x := q.exchange(t)
		const n = 3
		done := make(chan bool, 2*n)
		for range n {
			x.Give(Offer{Conn: Conn{FD: q.take, Key: key("k")}, Done: func(taken bool) { done <- taken }})
		}
		reader, err := seqpacket.New(dup(t, q.take))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = reader.Close() }()
		for settled := 0; settled < n; {
			p, ack, err := openParcel(reader)
			if err != nil {
				t.Fatal(err)
			}
			settled += len(p.FDs)
			_ = rawfd.Send(ack, answer, nil)
			_ = unix.Close(ack)
			p.Close()
		}
		for range n {
			receive(t, done)
		}
		if len(done) != 0 {
			t.Error("settled twice")
		}
	})
}
