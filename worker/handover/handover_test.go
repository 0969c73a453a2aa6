package handover

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// children are what the test binary may be: receivers that are killed, or are short of descriptors.
var children = map[string]func() int{
	"poor": poor, "hoarder": hoarder, "receiver": receiver, "sender": sender,
	"full": full,
}

// poor is a receiver whose limit of descriptors leaves a few, until it is told "rich".
func poor() int {
	x := New(slog.New(slog.DiscardHandler))
	x.Register(key("k"), func(c Conn) { _ = unix.Close(c.FD) })
	if x.openOn(3) != nil {
		return 1
	}
	x.Start()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		return 1
	}
	set := func(n uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}); err != nil {
			os.Exit(1)
		}
	}
	set(60)
	before := openFiles()
	fmt.Println("poor")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "rich":
			set(old.Max)
			fmt.Println("rich")
		case "count": // an answer comes before what it says is done and counted
			for begin := time.Now(); openFiles() > before && time.Since(begin) < patience/2; {
				time.Sleep(time.Millisecond)
			}
			x.Stop()
			leaked := openFiles() + 1 - before // Stop has closed the inbox
			fmt.Println("taken", x.Counts.Taken.Load(), "refused", x.Counts.Refused.Load() > 0, "leaked", leaked)
		}
	}
	return 0
}

// hoarder takes and keeps what it can, with few descriptors, and opens what it has when it is told to.
func hoarder() int {
	x := New(slog.New(slog.DiscardHandler))
	kept := make(chan Conn, 100)
	x.Register(key("k"), func(c Conn) { kept <- c })
	if x.openOn(3) != nil {
		return 1
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: 64}); err != nil {
		return 1
	}
	x.Start()
	fmt.Println("hungry")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		taken := <-kept
		c, err := taken.Open()
		fmt.Println("opened", c != nil, err)
	}
	return 0
}

func openFiles() int {
	all, _ := os.ReadDir("/proc/self/fd")
	return len(all)
}

// A malformed message is closed, whatever it carries, and the next good one is taken.
//
//nolint:paralleltest // it counts the descriptors of the process
func TestMalformedMessages(t *testing.T) {
	q, c := newPair(t), connect(t, 1)
	x, got := q.taking(t, "k")
	from := q.exchange(t)
	good, err := wire.Encode(wire.Handover{Keys: []Key{key("k")}, Conns: []wire.HandoverConn{{0, 1000}}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := wire.Encode(wire.Handover{Keys: []Key{key("k")}, Conns: []wire.HandoverConn{{0, 1000}, {0, 1}}})
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(good), `"v":1`, `"v":2`, 1)
	body := func(s string) string { return `{"v":1,"t":"handover","m":` + s + `}` }
	before := openFiles()
	for name, tt := range map[string]struct {
		data string
		fds  int
	}{
		"no message":         {"x", 1},
		"a zero":             {"\x00", 0},
		"another kind":       {`{"v":1,"t":"go"}`, 1},
		"another version":    {other, 1},
		"no connection":      {string(good), 0},
		"one too many":       {string(good), 2},
		"no body":            {`{"v":1,"t":"handover"}`, 1},
		"a body of no kind":  {body(`[]`), 1},
		"a key that is none": {body(`{"keys":[{"g":"tcp/80","p":"http","n":"k"}],"conns":[[1,1]]}`), 1},
		"a negative key":     {body(`{"keys":[{"g":"tcp/80","p":"http","n":"k"}],"conns":[[-1,1]]}`), 1},
		"a negative time":    {body(`{"keys":[{"g":"tcp/80","p":"http","n":"k"}],"conns":[[0,-1]]}`), 1},
		"half a connection":  {body(`{"keys":[{"g":"tcp/80","p":"http","n":"k"}],"conns":[[]]}`), 3},
		"many connections": {
			body(`{"keys":[{"g":"tcp/80"}],"conns":[` + strings.Repeat("[0,1],", 5000) + `[0,1]]}`), 1,
		},
		"a great number": {
			body(`{"keys":[{"g":"tcp/80","p":"http","n":"k"}],"conns":[[99999999999999999999,1]]}`), 1,
		},
		"connections cut off": {string(two), 1},
	} {
		ours, theirs, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		fds := slices.Repeat(c.fds, tt.fds)
		putParcel(t, q.give, []byte(tt.data), fds, theirs)
		_ = unix.Close(theirs)
		awaitReadable(t, ours)
		if n, err := unix.Read(ours, make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("%s: %d bytes of an answer, %v", name, n, err)
		}
		_ = unix.Close(ours)
	}
	want(t, c.giving(from, 0, "k", time.Second), true)
	_ = unix.Close(receive(t, got).FD)
	x.Stop()
	if len(got) != 0 || x.Counts.Taken.Load() != 1 {
		t.Errorf("%d more were taken", len(got))
	}
	// The goroutine that has read the ack closes its socket.
	for begin := time.Now(); openFiles() > before; time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("%d descriptors, then %d", before, openFiles())
		}
	}
}

// More connections than one message carries arrive all, once each, with what their clients have said and what is left
// of their time.
func TestBatchArrivesWhole(t *testing.T) {
	t.Parallel()
	const n = 500
	q, c := newPair(t), connect(t, n)
	from := q.exchange(t)
	answers := make([]<-chan bool, n)
	for i := range n {
		c.say(t, i, fmt.Sprint(i))
		answers[i] = c.giving(from, i, "k", time.Duration(i)*time.Second)
	}
	_, got := q.taking(t, "k")
	seen := map[string]bool{}
	for range n {
		r := receive(t, got)
		i := fmt.Sprint(int(r.Idle / time.Second))
		wantWords(t, r.FD, i)
		if seen[i] || r.Key != key("k") {
			t.Errorf("%s, again: %v; key %q", i, seen[i], r.Key)
		}
		seen[i] = true
		_ = unix.Close(r.FD)
	}
	for i := range n {
		want(t, answers[i], true)
	}
	if from.Counts.Given.Load() != n || from.Counts.Kept.Load() != 0 {
		t.Errorf("given %d, kept %d", from.Counts.Given.Load(), from.Counts.Kept.Load())
	}
	for i := range n { // the connection is open: we have closed a copy
		if _, err := c.conns[i].Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

// A drain's connections travel many in a message, and never more than fit.
func TestMessagesAreFull(t *testing.T) {
	t.Parallel()
	const n = 1000
	q, c := newPair(t), connect(t, 1)
	from := q.exchange(t)
	var kept sync.WaitGroup
	kept.Add(n)
	for range n {
		from.Give(Offer{Conn: Conn{FD: c.fds[0], Key: key("k")}, Done: func(taken bool) {
			if taken {
				t.Error("taken by nobody")
			}
			kept.Done()
		}})
	}
	queue, err := seqpacket.New(dup(t, q.take))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = queue.Close() }()
	messages := 0
	for sum := 0; sum < n; messages++ {
		p, ack, err := openParcel(queue)
		if err != nil {
			t.Fatal(err)
		}
		var h wire.Handover
		if err := errors.Join(p.Frame.Expect(&h), h.Check(len(p.FDs))); err != nil {
			t.Error(err)
		}
		if len(h.Conns) > batch || len(h.Keys) != 1 {
			t.Errorf("%d connections, keys %v", len(h.Conns), h.Keys)
		}
		sum += len(h.Conns)
		p.Close()
		_ = unix.Close(ack) // to be back with its sender
	}
	kept.Wait()
	if messages < n/batch || messages > n/10 {
		t.Errorf("%d messages for %d connections", messages, n)
	}
}

// What a receiver does not know stays with its sender, by the bitmap, and the rest goes.
func TestUnknownKeyStays(t *testing.T) {
	t.Parallel()
	q, c := newPair(t), connect(t, 4)
	from := q.exchange(t)
	var answers []<-chan bool
	keys := []string{"k", "unknown", "k", "other"}
	for i, name := range keys {
		c.say(t, i, name)
		answers = append(answers, c.giving(from, i, name, time.Minute))
	}
	x, got := q.taking(t, "k")
	for i, name := range keys {
		want(t, answers[i], name == "k")
		if name == "k" {
			r := receive(t, got)
			wantWords(t, r.FD, name)
			_ = unix.Close(r.FD)
			continue
		}
		wantWords(t, c.fds[i], name)
	}
	x.Stop()                                                                         // what is counted is counted then
	if len(got) != 0 || x.Counts.Taken.Load() != 2 || x.Counts.Refused.Load() != 1 { // the unknown one was not offered
		t.Errorf("%d more, taken %d, refused %d", len(got), x.Counts.Taken.Load(), x.Counts.Refused.Load())
	}
	if from.Counts.Given.Load() != 2 || from.Counts.Kept.Load() != 2 {
		t.Errorf("given %d, kept %d", from.Counts.Given.Load(), from.Counts.Kept.Load())
	}
}

// A receiver whose descriptors do not suffice leaves a message to its sender, keeps none of it, and takes the next that
// fits.
func TestReceiverOutOfDescriptors(t *testing.T) {
	t.Parallel()
	const n = 100
	q, c := newPair(t), connect(t, n)
	from := q.exchange(t)
	r := startChild(t, "poor", q.take)
	r.hear(t, "poor")
	giveAll := func() []<-chan bool {
		var all []<-chan bool
		from.mu.Lock() // so that they go together
		from.busy = true
		from.mu.Unlock()
		for i := range c.fds {
			all = append(all, c.giving(from, i, "k", 0))
		}
		go from.sendAll()
		return all
	}
	for _, a := range giveAll() {
		want(t, a, false)
	}
	for i := range c.fds {
		c.say(t, i, "hello")
		wantWords(t, c.fds[i], "hello")
	}
	want(t, c.giving(from, 0, "k", 0), true) // there is room for one
	r.tell(t, "rich")
	r.hear(t, "rich")
	for _, a := range giveAll() {
		want(t, a, true)
	}
	r.tell(t, "count")
	r.hear(t, fmt.Sprintf("taken %d refused true leaked 0", 1+n))
}

// A receiver takes no more than it can serve: to give a connection to a server takes descriptors, too.
func TestReceiverKeepsSomeDescriptors(t *testing.T) {
	t.Parallel()
	q, c := newPair(t), connect(t, 64)
	from := q.exchange(t)
	r := startChild(t, "hoarder", q.take)
	r.hear(t, "hungry")
	taken := 0
	for i := range c.fds {
		if ok := receive(t, c.giving(from, i, "k", 0)); !ok {
			break
		}
		taken++
	}
	if taken < 10 || taken > 64-rawfd.Headroom {
		t.Errorf("%d were taken", taken)
	}
	for range rawfd.Headroom / 2 {
		r.tell(t, "open")
		r.hear(t, "opened true <nil>")
	}
}

// After Stop no handler is called; what was not taken goes to somebody else, and every connection is somebody's, once.
func TestStop(t *testing.T) {
	t.Parallel()
	const rounds, perRound = 20, 100
	c := connect(t, perRound)
	for range rounds {
		give, take, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		other := newPair(t)
		from, first := givingTo(t, pair{give, take}, other), New(slog.New(slog.DiscardHandler))
		_ = unix.Close(give)
		_, second := other.taking(t, "k")
		var stopped atomic.Bool
		var taken, kept atomic.Int64
		first.Register(key("k"), func(g Conn) {
			_ = unix.Close(g.FD)
			if stopped.Load() {
				t.Error("a handler was called after Stop")
			}
			taken.Add(1)
		})
		if err := first.openOn(take); err != nil { // the only hold on it
			t.Fatal(err)
		}
		first.Start()
		var answered, giving sync.WaitGroup
		answered.Add(perRound)
		giving.Go(func() {
			for i := range c.fds {
				from.Give(Offer{Conn: Conn{FD: c.fds[i], Key: key("k")}, Done: func(ok bool) {
					if !ok {
						kept.Add(1)
					}
					answered.Done()
				}})
			}
		})
		for taken.Load() == 0 {
			time.Sleep(50 * time.Microsecond)
		}
		first.Stop()
		stopped.Store(true)
		first.Stop() // once more does no harm
		giving.Wait()
		answered.Wait()
		for taken.Load()+kept.Load() < perRound { // an ack comes before the handler is called
			_ = unix.Close(receive(t, second).FD)
			taken.Add(1)
		}
		if kept.Load() != 0 || taken.Load() != perRound || len(second) != 0 {
			t.Errorf("taken %d, kept %d of %d", taken.Load(), kept.Load(), perRound)
		}
	}
}

// TestThousandsOfListeners: what a worker with so many takes fits into the messages by which others hear of it.
func TestThousandsOfListeners(t *testing.T) {
	t.Parallel()
	to, from := New(slog.New(slog.DiscardHandler)), New(slog.New(slog.DiscardHandler))
	t.Cleanup(to.Stop)
	name := func(i int) Key {
		return Key{Group: fmt.Sprint("tcp/", i), Process: "http", Name: fmt.Sprint("site-", i)}
	}
	for i := range 3000 {
		to.Register(name(i), func(Conn) {})
		to.RegisterAlso(name(i).Any(), name(i))
	}
	if err := to.Open(); err != nil {
		t.Fatal(err)
	}
	takes, address := to.Takes()
	m := wire.Takers{PIDs: []int{1}, Of: []int{0}, Sets: []wire.KeySet{takes.Keys}}
	for _, said := range []wire.Message{takes, m} {
		if _, err := wire.Encode(said); err != nil {
			t.Fatal(err)
		}
	}
	if err := from.SetTakers(m, []int{dup(t, address[0])}); err != nil {
		t.Fatal(err)
	}
	if old := name(2999); !from.HasTaker(old) || !from.HasTaker(Key{
		Group: old.Group, Process: old.Process,
		Name: "gone",
	}) {
		t.Error("nobody takes the last one")
	}
	if err := from.SetTakers(wire.Takers{}, nil); err != nil {
		t.Error(err)
	}
}

// TestStopTwiceAtOnce: the second one waits for the end of the taking as well, and does not take the inbox from under
// it.
func TestStopTwiceAtOnce(t *testing.T) {
	t.Parallel()
	for range 300 {
		h := New(slog.New(slog.DiscardHandler))
		h.Register(Key{}, func(Conn) {})
		if err := h.Open(); err != nil {
			t.Fatal(err)
		}
		h.Start()
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				h.Stop()
				select {
				case <-h.done:
				default:
					t.Error("stopped, and still taking")
				}
			})
		}
		both.Wait()
	}
}
