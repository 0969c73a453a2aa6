package wire

import (
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
		{"two", []HandoverConn{{0, 100}, {1, 0}}, 3, true},
		{"none", nil, 1, true},
		{"no ack socket", []HandoverConn{{0, 1}}, 1, false},
		{"descriptors cut off", []HandoverConn{{0, 1}, {0, 1}}, 2, false},
		{"a descriptor too many", []HandoverConn{{0, 1}}, 3, false},
		{"no such key", []HandoverConn{{2, 1}}, 2, false},
		{"a negative key", []HandoverConn{{-1, 1}}, 2, false},
		{"time that is over", []HandoverConn{{0, -1}}, 2, false},
		{"time without an end", []HandoverConn{{0, 1<<63 - 1}}, 2, false},
	} {
		if err := (Handover{Keys: keys, Conns: c.conns}).Check(c.fds); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Whatever comes as a hand-over is refused or can be used as it is: every connection has a key and a descriptor.
func FuzzHandover(f *testing.F) {
	for _, h := range []Handover{{}, {Keys: []ListenerKey{{Group: "a"}, {Group: "b"}}, Conns: []HandoverConn{{0, 75_000}, {1, 0}}}, {Keys: []ListenerKey{{Group: "a"}}, Conns: []HandoverConn{{0, 1<<63 - 1}}}} {
		b, err := Encode(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, len(h.Conns)+1)
	}
	f.Add([]byte(`{"v":1,"t":"handover","m":{"keys":[{"g":"a"}],"conns":[[],[0],[1,2,3],null,[-1,9e18]]}}`), 6)
	f.Add([]byte(`{"v":1,"t":"handover","m":null}`), 1)
	f.Fuzz(func(t *testing.T, data []byte, fds int) {
		frame, err := Decode(data)
		if err != nil {
			return
		}
		var h Handover
		if frame.Check() != nil || frame.Into(&h) != nil || h.Check(fds) != nil {
			return
		}
		if len(h.Conns)+1 != fds {
			t.Fatalf("%d connections with %d descriptors", len(h.Conns), fds)
		}
		for _, c := range h.Conns {
			_ = h.Keys[c[0]]
			if idle := time.Duration(c[1]) * time.Millisecond; idle < 0 || idle/time.Millisecond != time.Duration(c[1]) {
				t.Fatalf("%d ms are %v", c[1], idle)
			}
		}
	})
}
