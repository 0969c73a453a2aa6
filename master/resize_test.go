package master

import (
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/keeper"
	"baton/worker/seqpacket"
)

// TestResizeRightAfterCommit: a number that was named to the new master, before it was told what its predecessor has stored
// last, came later than that.
func TestResizeRightAfterCommit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sized bool
		want  int
	}{{false, 4}, {true, 2}} {
		ours, theirs, err := seqpacket.Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(theirs)
		conn, err := seqpacket.New(ours)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		m := &master{
			cfg: Config{Workers: 3}, want: 2, sized: tt.sized, keeper: conn, log: slog.New(slog.DiscardHandler),
			items: map[string]inherited{keeper.EntryCount: {data: `{"count":4,"config":3}`, fd: -1}},
		}
		m.recallSize()
		if m.want != tt.want {
			t.Errorf("sized %v: %d slots, want %d", tt.sized, m.want, tt.want)
		}
	}
}
