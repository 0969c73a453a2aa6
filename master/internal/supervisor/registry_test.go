package supervisor

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/ownfile"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// held is a descriptor of which the test learns when it is closed.
type held struct {
	t  *testing.T
	r  *os.File
	fd int
}

func hold(t *testing.T) held {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(p[0]), "pipe")
	t.Cleanup(func() { _ = r.Close() })
	return held{t: t, r: r, fd: p[1]}
}

// want sees whether somebody holds it. A process that another test is forking may, until it executes its program, so
// that the end is waited for.
func (h held) want(open bool, when string) {
	h.t.Helper()
	limit := 20 * time.Second
	if open {
		limit = time.Millisecond
	}
	if err := h.r.SetReadDeadline(time.Now().Add(limit)); err != nil {
		h.t.Fatal(err)
	}
	_, err := h.r.Read(make([]byte, 1))
	if got := !errors.Is(err, io.EOF); got != open {
		h.t.Errorf("%s: open is %v, want %v", when, got, open)
	}
}

// path is a file that an entry takes with it.
func path(t *testing.T, name string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// made is the file at a path, as its maker knows it.
func made(t *testing.T, p string) wire.Path {
	t.Helper()
	f, err := ownfile.At(p)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func wantPath(t *testing.T, p string, there bool, when string) {
	t.Helper()
	if _, err := os.Lstat(p); (err == nil) != there {
		t.Errorf("%s: %s: %v, want it there: %v", when, filepath.Base(p), err, there)
	}
}

func TestRegistryDrop(t *testing.T) {
	t.Parallel()
	s, h, p := registry{}, hold(t), path(t, "sock")
	s.put("a", entry{FD: h.fd, Unlink: made(t, p)})
	h.want(true, "kept")
	s.drop("b")
	s.drop("a")
	s.drop("a")
	h.want(false, "dropped")
	wantPath(t, p, false, "dropped")
	if len(s) != 0 {
		t.Errorf("%v", s)
	}
}

func TestRegistryPutReplaces(t *testing.T) {
	t.Parallel()
	s, old, fresh, p := registry{}, hold(t), hold(t), path(t, "sock")
	s.put("a", entry{FD: old.fd, Unlink: made(t, p)})
	s.put("a", entry{FD: fresh.fd, Unlink: made(t, p), Data: "2"})
	old.want(false, "replaced")
	fresh.want(true, "kept")
	wantPath(t, p, true, "the new one has the same path")

	other := path(t, "other")
	last := hold(t)
	s.put("a", entry{FD: last.fd, Unlink: made(t, other)})
	wantPath(t, p, false, "the new one has another path")
	wantPath(t, other, true, "new")
	s.drop("a")
}

// A master that changes the data of an entry does not have its descriptor at hand.
func TestRegistryPutOfDataKeepsTheDescriptor(t *testing.T) {
	t.Parallel()
	s, h, p := registry{}, hold(t), path(t, "sock")
	s.put("a", entry{FD: h.fd, Data: "1", Unlink: made(t, p)})
	s.put("a", entry{FD: -1, Data: "2"})
	h.want(true, "new data")
	wantPath(t, p, true, "new data")
	if e := s["a"]; e.Data != "2" || e.FD != h.fd || e.Unlink.Path != p {
		t.Errorf("%+v", e)
	}
	s.drop("a")
	h.want(false, "dropped")
	wantPath(t, p, false, "dropped")
}

func TestRegistryEntryWithoutADescriptor(t *testing.T) {
	t.Parallel()
	s := registry{}
	s.put("count", entry{FD: -1, Data: "3"})
	s.put("count", entry{FD: -1, Data: "4"})
	if s["count"].Data != "4" {
		t.Errorf("%+v", s["count"])
	}
	s.drop("count")
}

func TestStagedApply(t *testing.T) {
	t.Parallel()
	s, gone, fresh := registry{}, hold(t), hold(t)
	s.put("listen/old", entry{FD: gone.fd, Unlink: made(t, path(t, "old"))})
	g := staged{
		{name: "listen/new", e: entry{FD: fresh.fd}},
		{name: "listen/old", drop: true},
		{name: "count", e: entry{FD: -1, Data: "1"}},
		{name: "count", e: entry{FD: -1, Data: "2"}},
	}
	g.apply(s)
	gone.want(false, "dropped")
	fresh.want(true, "put")
	if got := s.names(""); !slices.Equal(got, []string{"count", "listen/new"}) || s["count"].Data != "2" {
		t.Errorf("%v", s)
	}
	s.drop("listen/new")
}

// What a failed attempt has made goes; what it wanted to drop stays.
func TestStagedDiscard(t *testing.T) {
	t.Parallel()
	s, old, fresh := registry{}, hold(t), hold(t)
	oldPath, freshPath, logPath := path(t, "old"), path(t, "fresh"), path(t, "log")
	s.put("listen/old", entry{FD: old.fd, Unlink: made(t, oldPath)})
	g := staged{
		{name: "listen/fresh", e: entry{FD: fresh.fd, Unlink: made(t, freshPath)}},
		{name: "listen/old", drop: true},
		{name: "count", e: entry{FD: -1, Data: "2"}},
		{name: "log", e: entry{FD: -1, Undo: made(t, logPath)}},
	}
	g.discard()
	fresh.want(false, "discarded")
	wantPath(t, freshPath, false, "discarded")
	wantPath(t, logPath, false, "discarded")
	old.want(true, "not dropped")
	wantPath(t, oldPath, true, "not dropped")
	if got := s.names(""); !slices.Equal(got, []string{"listen/old"}) {
		t.Errorf("%v", got)
	}
	s.drop("listen/old")
}

// What is only to be undone stays after COMMIT, also when its entry goes.
func TestStagedUndo(t *testing.T) {
	t.Parallel()
	s, p := registry{}, path(t, "log")
	staged{{name: "log", e: entry{FD: -1, Undo: made(t, p)}}}.apply(s)
	s.drop("log")
	wantPath(t, p, true, "applied and dropped")
}

// What somebody else has put at the path since is his.
func TestRegistryLeavesAnothersFile(t *testing.T) {
	t.Parallel()
	s, p := registry{}, path(t, "sock")
	s.put("a", entry{FD: -1, Unlink: made(t, p)})
	if err := errors.Join(os.Rename(p, p+".before"), os.WriteFile(p, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.drop("a")
	wantPath(t, p, true, "another file")
}

func TestNamesAreSortedAndHaveThePrefix(t *testing.T) {
	t.Parallel()
	s := registry{"worker/9": {FD: -1}, "worker/10": {FD: -1}, "workers": {FD: -1}, "exe": {FD: -1}}
	if got := s.names(EntryWorker + "/"); !slices.Equal(got, []string{"worker/10", "worker/9"}) {
		t.Errorf("%v", got)
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	s, h := registry{}, hold(t)
	s.put("exe", entry{FD: h.fd, Data: "v1"})
	s.put("count", entry{FD: -1, Data: "3"})
	s.put("worker/7", entry{FD: -1, Data: "{}"})
	ours, theirs := talk(t)
	s.send(ours, "exe", "count")
	for _, want := range []message.Item{{Name: "exe", Data: "v1", HasFD: true}, {Name: "count", Data: "3"}} {
		var got message.Item
		p := hear(t, theirs, &got)
		if got != want || (len(p.FDs) == 1) != want.HasFD {
			t.Errorf("%+v with %d descriptors, want %+v", got, len(p.FDs), want)
		}
		p.Close()
	}
	hear(t, theirs, &message.End{})
	h.want(true, "a duplicate was sent")
	s.drop("exe")
	h.want(false, "dropped")
}

func TestWorkerEntry(t *testing.T) {
	t.Parallel()
	if got := WorkerPID(WorkerEntry(4711)); got != 4711 {
		t.Error(got)
	}
	for _, name := range []string{"", "worker", "worker/", "worker/x", "workers/7", "listen/tcp/7", "worker/7/8"} {
		if got := WorkerPID(name); got != 0 {
			t.Errorf("%q is of worker %d", name, got)
		}
	}
}

// talk is a conversation in one process.
func talk(t *testing.T) (ours, theirs *seqpacket.Conn) {
	t.Helper()
	a, b, err := seqpacket.Pair()
	if err != nil {
		t.Fatal(err)
	}
	for _, end := range []struct {
		fd   int
		conn **seqpacket.Conn
	}{{a, &ours}, {b, &theirs}} {
		if *end.conn, err = seqpacket.New(end.fd); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}

// hear waits for a message, which is to be of m's kind.
func hear(t *testing.T, c *seqpacket.Conn, m wire.Message) seqpacket.Packet {
	t.Helper()
	p, err := c.Recv()
	if err != nil {
		t.Fatalf("%v, want %s", err, m.Kind())
	}
	if err := p.Frame.Into(m); err != nil {
		t.Fatal(err)
	}
	return p
}

// silent sees that nothing more was said: the other side's end comes first.
func silent(t *testing.T, ours, theirs *seqpacket.Conn) {
	t.Helper()
	_ = ours.Close()
	if p, err := theirs.Recv(); err == nil {
		t.Errorf("%s was said", p.Frame.T)
	} else if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
