package wire

import (
	"slices"
	"strconv"
	"testing"
	"time"
)

func TestHandoverCheck(t *testing.T) {
	t.Parallel()
	keys := []ListenerKey{{Group: "a"}, {Group: "b"}}
	for _, c := range []struct {
		name  string
		conns []HandoverConn
		fds   int
		ok    bool
	}{
		{"two", []HandoverConn{{0, 100}, {1, 0}}, 2, true},
		{"none", nil, 0, true},
		{"descriptors cut off", []HandoverConn{{0, 1}, {0, 1}}, 1, false},
		{"a descriptor too many", []HandoverConn{{0, 1}}, 3, false},
		{"no such key", []HandoverConn{{2, 1}}, 1, false},
		{"a negative key", []HandoverConn{{-1, 1}}, 1, false},
		{"time that is over", []HandoverConn{{0, -1}}, 1, false},
		{"time without an end", []HandoverConn{{0, 1<<63 - 1}}, 1, false},
	} {
		if err := (Handover{Keys: keys, Conns: c.conns}).Check(c.fds); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Whatever comes as a hand-over is refused or can be used as it is: every connection has a key and a descriptor.
func FuzzHandover(f *testing.F) {
	for _, h := range []Handover{
		{},
		{Keys: []ListenerKey{{Group: "a"}, {Group: "b"}}, Conns: []HandoverConn{{0, 75_000}, {1, 0}}},
		{Keys: []ListenerKey{{Group: "a"}}, Conns: []HandoverConn{{0, 1<<63 - 1}}},
	} {
		b, err := Encode(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, len(h.Conns))
	}
	f.Add([]byte(`{"v":1,"t":"handover","m":{"keys":[{"g":"a"}],"conns":[[],[0],[1,2,3],null,[-1,9e18]]}}`), 5)
	f.Add([]byte(`{"v":1,"t":"handover","m":null}`), 0)
	f.Fuzz(func(t *testing.T, data []byte, fds int) {
		frame, err := Decode(data)
		if err != nil {
			return
		}
		var h Handover
		if frame.Check() != nil || frame.Into(&h) != nil || h.Check(fds) != nil {
			return
		}
		if len(h.Conns) != fds {
			t.Fatalf("%d connections with %d descriptors", len(h.Conns), fds)
		}
		for _, c := range h.Conns {
			_ = h.Keys[c[0]]
			if idle := time.Duration(c[1]) * time.Millisecond; idle < 0 ||
				idle/time.Millisecond != time.Duration(c[1]) {
				t.Fatalf("%d ms are %v", c[1], idle)
			}
		}
	})
}

// TestKeySet: what was put in is in, in whatever order, and hardly anything else.
func TestKeySet(t *testing.T) {
	t.Parallel()
	name := func(i int) ListenerKey {
		return ListenerKey{Group: "tcp/" + strconv.Itoa(i), Process: "http", Name: "n"}
	}
	var keys, backwards []ListenerKey
	for i := range 3000 {
		keys = append(keys, name(i), name(i).Any())
		backwards = append(backwards, name(2999-i).Any(), name(2999-i))
	}
	s := NewKeySet(slices.Values(keys))
	if !slices.Equal(s, NewKeySet(slices.Values(backwards))) {
		t.Error("the order of keys is seen")
	}
	wrong := 0
	for i := range 3000 {
		if !s.Has(name(i)) || !s.Has(name(i).Any()) {
			t.Fatalf("%v is not in", name(i))
		}
		if s.Has(name(i + 3000)) {
			wrong++
		}
	}
	if wrong > 3 || KeySet(nil).Has(name(0)) || KeySet("abc").Has(name(0)) {
		t.Errorf("%d of 3000 others are in", wrong)
	}
	if _, err := Encode(Takes{Keys: s}); err != nil {
		t.Error(err)
	}
	other := NewKeySet(slices.Values(keys[1:]))
	if _, err := Encode(Takers{PIDs: []int{1, 2}, Of: []int{0, 1}, Sets: []KeySet{s, other}}); err != nil {
		t.Error(err)
	}
}
