package listen

import (
	"slices"
	"strings"
	"testing"

	"baton/worker/wire"
)

// TestGive: a worker begins with its own sockets and the shared ones. Each message can be sent, and the last one says
// so.
func TestGive(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("<", maxBytes)
	s := &Set{}
	var want []int
	for i := range MaxListeners {
		k := &socket{record: record{Slot: i%3 - 1}, fd: i}
		if k.extra = i%5 == 0; !k.extra && k.Slot != 0 {
			want = append(want, i)
		}
		k.Name, k.Address, k.Group = long, "unix:"+long, "unix/"+long
		s.sockets = append(s.sockets, k)
	}
	paths := make([]wire.Path, 300)
	for i := range paths {
		paths[i] = wire.Path{Ino: int64(i), Path: "/" + strings.Repeat("x", 3*i)}
	}
	var fds []int
	var got []wire.Path
	more := true
	w := &Worker{Slot: 1, Conn: conn(func(m wire.Message, with ...int) error {
		one := m.(wire.Sockets)
		if _, err := wire.Encode(one); err != nil || len(with) != len(one.Listeners) || !more {
			t.Errorf("%v, %d descriptors, after the last one %v", err, len(with), !more)
		}
		fds, got, more = append(fds, with...), append(got, one.Paths...), one.More
		return nil
	})}
	if err := s.Give(w, paths); err != nil || more {
		t.Errorf("%v, more %v", err, more)
	}
	if !slices.Equal(fds, want) || !slices.Equal(got, paths) {
		t.Errorf("sockets %v, want %v; %d paths", fds, want, len(got))
	}
}
