package worker

import (
	"maps"
	"testing"

	"baton/worker/handover"
)

// TestStrays: the connections of a listener that there is no more go to another one on its port only if all of them take connections.
func TestStrays(t *testing.T) {
	t.Parallel()
	key := func(name string) handover.Key { return handover.Key{Group: "tcp/80", Process: "http", Name: name} }
	echo := handover.Key{Group: "tcp/80", Process: "echo", Name: "e"}
	elsewhere := handover.Key{Group: "tcp/81", Process: "http", Name: "x"}
	for _, tt := range []struct {
		name    string
		sockets []handover.Key
		takes   []handover.Key
		want    map[handover.Key]handover.Key
	}{
		{"one", []handover.Key{key("a")}, []handover.Key{key("a")}, map[handover.Key]handover.Key{key(""): key("a")}},
		{"two", []handover.Key{key("a"), key("b")}, []handover.Key{key("a"), key("b")}, map[handover.Key]handover.Key{key(""): key("a")}},
		{"one of two stays", []handover.Key{key("a"), key("b")}, []handover.Key{key("a")}, map[handover.Key]handover.Key{}},
		{"the other of two stays", []handover.Key{key("a"), key("b")}, []handover.Key{key("b")}, map[handover.Key]handover.Key{}},
		{"none takes", []handover.Key{key("a")}, nil, map[handover.Key]handover.Key{}},
		{"another protocol does not count", []handover.Key{key("a"), echo}, []handover.Key{key("a")}, map[handover.Key]handover.Key{key(""): key("a")}},
		{"another port does not count", []handover.Key{key("a"), elsewhere}, []handover.Key{elsewhere}, map[handover.Key]handover.Key{elsewhere.Any(): elsewhere}},
	} {
		var sockets []Socket
		for _, k := range tt.sockets {
			sockets = append(sockets, Socket{Key: k, Transport: "tcp"})
		}
		sockets = append(sockets, Socket{Key: key("u"), Transport: "udp"})
		takes := map[handover.Key]bool{}
		for _, k := range tt.takes {
			takes[k] = true
		}
		if got := strays(sockets, func(k handover.Key) bool { return takes[k] }); !maps.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
