package listen

import (
	"slices"
	"strings"
	"testing"

	"baton/worker/wire"
)

// TestBatches: what a worker gets is split so that each message can be sent, and nothing is lost or changes its place.
func TestBatches(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<", maxBytes)
	var all []*socket
	for i := range MaxListeners {
		s := &socket{Listener: Listener{Name: "x"}, fd: i}
		if i%100 == 7 {
			s.Name, s.Address, s.Group = long, "unix:"+long, "unix/"+long
		}
		all = append(all, s)
	}
	paths := make([]wire.Path, 300)
	for i := range paths {
		paths[i].Ino, paths[i].Path = int64(i), "/"+strings.Repeat("x", 3*i)
	}
	var fds []int
	var inos []int64
	got := batches(all, paths)
	for i, b := range got {
		if _, err := wire.Encode(b.Sockets); err != nil || len(b.fds) > wire.MaxFDs || len(b.fds) != len(b.Listeners) {
			t.Errorf("message %d: %v, %d descriptors", i, err, len(b.fds))
		}
		if b.More != (i < len(got)-1) {
			t.Errorf("message %d of %d: more %v", i, len(got), b.More)
		}
		fds = append(fds, b.fds...)
		for _, p := range b.Paths {
			inos = append(inos, p.Ino)
		}
	}
	if len(fds) != MaxListeners || !slices.IsSorted(fds) || len(inos) != len(paths) || !slices.IsSorted(inos) {
		t.Errorf("%d descriptors, %d paths", len(fds), len(inos))
	}
	if got := batches(nil, nil); len(got) != 1 || got[0].More {
		t.Errorf("%+v, and a worker waits for one message", got)
	}
}
