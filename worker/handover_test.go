package worker

import (
	"maps"
	"testing"

	"baton/worker/handover"
)

// TestStrays: the connections of a listener that there is no more go to another one on its port only if all of them
// take connections.
func TestStrays(t *testing.T) {
	t.Parallel()
	key := func(name string) handover.Key { return handover.Key{Group: "tcp/80", Process: "http", Name: name} }
	echo := handover.Key{Group: "tcp/80", Process: "echo", Name: "e"}
	elsewhere := handover.Key{Group: "tcp/81", Process: "http", Name: "x"}
	type (
		keys = []handover.Key
		to   = map[handover.Key]handover.Key
	)
	a, b, anybody := key("a"), key("b"), key("")
	for _, tt := range []struct {
		name           string
		sockets, takes keys
		want           to
	}{
		{"one", keys{a}, keys{a}, to{anybody: a}},
		{"two", keys{a, b}, keys{a, b}, to{anybody: a}},
		{"one of two stays", keys{a, b}, keys{a}, to{}},
		{"the other of two stays", keys{a, b}, keys{b}, to{}},
		{"none takes", keys{a}, nil, to{}},
		{"another protocol does not count", keys{a, echo}, keys{a}, to{anybody: a}},
		{"another port does not count", keys{a, elsewhere}, keys{elsewhere}, to{elsewhere.Any(): elsewhere}},
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
