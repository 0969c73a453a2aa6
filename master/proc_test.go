package master

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"baton/worker/wire"
)

func TestResultOf(t *testing.T) {
	t.Parallel()
	m := &master{results: []wire.Result{{Seen: 1, OK: true}, {Seen: 3, Error: "x"}, {Seen: 3, OK: true}, {Seen: 7, OK: true}}}
	for id, want := range map[int64]struct {
		seen int64
		ok   bool
	}{0: {1, true}, 1: {1, true}, 2: {3, false}, 3: {3, false}, 4: {7, true}, 7: {7, true}} {
		if r, ok := m.resultOf(id); !ok || r.Seen != want.seen || r.OK != want.ok {
			t.Errorf("request %d: %+v, %v", id, r, ok)
		}
	}
	if r, ok := m.resultOf(8); ok {
		t.Errorf("request 8 is running: %+v", r)
	}
}

func TestOnResultForgetsTheOldest(t *testing.T) {
	t.Parallel()
	m := &master{}
	for i := range maxResults + 5 {
		m.onResult(wire.Result{Seen: int64(i)})
	}
	if n := len(m.results); n != maxResults || m.results[0].Seen != 5 {
		t.Errorf("%d results from %d", n, m.results[0].Seen)
	}
}

func TestAnswerFor(t *testing.T) {
	t.Parallel()
	ok := wire.Result{Seen: 7, OK: true, Generation: 5}
	failed := wire.Result{Seen: 7, Error: "port taken", Generation: 4}
	worker := func(gen int) map[int]*proc { return map[int]*proc{1: {procView: procView{gen: gen}}} }
	for _, tt := range []struct {
		name    string
		result  wire.Result
		known   bool
		gen     int
		procs   map[int]*proc
		drained bool
		id      int64
		answer  *ReloadAnswer // nil: not yet
	}{
		{"runs", ok, true, 5, nil, false, 8, nil},
		{"done", ok, false, 5, worker(4), false, 7, &ReloadAnswer{ID: 7, OK: true, Generation: 5}},
		{"done for an earlier request", ok, true, 5, nil, false, 6, &ReloadAnswer{ID: 6, OK: true, Generation: 5}},
		{"failed", failed, true, 4, nil, false, 7, &ReloadAnswer{ID: 7, Error: "port taken", Generation: 4}},
		{"failed, nothing drains", failed, false, 4, worker(3), true, 7, &ReloadAnswer{ID: 7, Error: "port taken", Generation: 4}},
		{"the old drains", ok, true, 5, worker(4), true, 7, nil},
		{"who drains is not known", ok, false, 5, worker(5), true, 7, nil},
		{"the old master is asked", ok, true, 4, worker(5), true, 7, nil},
		{
			"the old has gone", ok, true, 5, worker(5), true, 7,
			&ReloadAnswer{ID: 7, OK: true, Generation: 5, Drained: true, CutRequests: 3, CutConnections: 4},
		},
		{
			"two reloads later", ok, true, 7, worker(6), true, 7,
			&ReloadAnswer{ID: 7, OK: true, Generation: 5, Drained: true, CutRequests: 3, CutConnections: 4},
		},
	} {
		m := &master{gen: tt.gen, known: tt.known, procs: tt.procs, results: []wire.Result{tt.result}}
		m.counts = counts{cuts: cuts{CutRequests: 13, CutConnections: 24}, AtCommit: cuts{CutRequests: 10, CutConnections: 20}}
		a, done := m.answerFor(waiter{id: tt.id, drained: tt.drained})
		if done != (tt.answer != nil) || done && a.answer != *tt.answer || a.err != nil {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, a, done, tt.answer)
		}
	}
}

func TestAnswerWaiters(t *testing.T) {
	t.Parallel()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name  string
		m     *master
		ctx   context.Context
		err   error // of the answer
		reply bool
		left  int
	}{
		{"runs", &master{}, t.Context(), nil, false, 1},
		{"nobody waits any more", &master{}, gone, nil, false, 0},
		{"done", &master{results: []wire.Result{{Seen: 1, OK: true}}}, t.Context(), nil, true, 0},
		{"another master has taken over", &master{over: true}, t.Context(), errSuperseded, true, 0},
		{"done, and another master has taken over", &master{over: true, results: []wire.Result{{Seen: 1}}}, t.Context(), nil, true, 0},
	} {
		reply := make(chan awaited, 1)
		tt.m.waiters = []waiter{{ctx: tt.ctx, id: 1, reply: reply}}
		tt.m.answerWaiters()
		if len(tt.m.waiters) != tt.left || (len(reply) == 1) != tt.reply {
			t.Errorf("%s: %d wait, %d answers", tt.name, len(tt.m.waiters), len(reply))
			continue
		}
		if tt.reply {
			if a := <-reply; !errors.Is(a.err, tt.err) {
				t.Errorf("%s: %+v", tt.name, a)
			}
		}
	}
	m, reply := &master{stopping: true}, make(chan awaited, 1)
	m.waiters = []waiter{{ctx: t.Context(), reply: reply}}
	m.answerWaiters()
	if a := <-reply; a.err == nil || errors.Is(a.err, errSuperseded) {
		t.Errorf("stopping: %+v", a)
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"fork/exec /x: text file busy":  true,
		"parent hasn't exited":          true,
		"process is not ready yet":      true,
		"child exited: exit status 100": false,
		"fork/exec /x: no such file":    false,
	} {
		if transient(errors.New(text)) != want {
			t.Errorf("%s", text)
		}
	}
	if transient(nil) {
		t.Error("success is tried again")
	}
}

// TestEndedAddresses: those that no socket has any more, of whatever slot, extra ones among them.
func TestEndedAddresses(t *testing.T) {
	t.Parallel()
	again := sock{at: "again", sockRecord: sockRecord{Made: 5}} // somebody has removed the first one's path
	m := &master{sockets: []sock{{at: "a", key: "a/7", extra: true}, {at: "b"}, again}}
	if got := m.endedAddresses([]string{"a", "c", "again"}, 4); !slices.Equal(got, []string{"c", "again"}) {
		t.Errorf("a worker of an older generation: %v", got)
	}
	if got := m.endedAddresses([]string{"a", "again"}, 5); len(got) != 0 {
		t.Errorf("a worker of the generation that has made it: %v", got)
	}
}

// TestGone: who ends unasked has crashed; in a slot of the running generation, the next one may have to wait for that.
func TestGone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		p         procView
		stopping  bool
		committed bool
		crashes   int64
		inSlot    int
		failed    string
	}{
		{"serving", procView{gen: 5, slot: 1, state: procServing}, false, true, 1, 1, ""},
		{"starting", procView{gen: 5, slot: 1, state: procStarting}, false, true, 1, 1, ""},
		{"of an old generation", procView{gen: 4, slot: 1, state: procServing}, false, true, 1, 0, ""},
		{"draining", procView{gen: 5, slot: 1, state: procDraining}, false, true, 0, 0, ""},
		{"at a stop", procView{gen: 5, slot: 1, state: procServing}, true, true, 1, 0, ""},
		{"before COMMIT", procView{gen: 5, slot: 1, pid: 50}, false, false, 0, 0, "worker 1 (pid 50): ended before it was ready: late, exit status 3"},
	} {
		p := &proc{procView: tt.p, why: "late", status: 3 << 8}
		m := &master{
			gen: 5, want: 2, log: slog.New(slog.DiscardHandler), procs: map[int]*proc{tt.p.pid: p},
			committed: tt.committed, stopping: tt.stopping,
		}
		m.gone(p)
		m.gone(p) // that was all
		if m.counts.Crashes != tt.crashes || m.crashes.slots[1].count != tt.inSlot || len(m.procs) != 0 {
			t.Errorf("%s: %d crashes, %d of the slot", tt.name, m.counts.Crashes, m.crashes.slots[1].count)
		}
		if m.failed == nil && tt.failed != "" || m.failed != nil && m.failed.Error() != tt.failed {
			t.Errorf("%s: failed with %v, want %q", tt.name, m.failed, tt.failed)
		}
	}
}

func TestServingSlots(t *testing.T) {
	t.Parallel()
	serving := func(slot int) *proc { return &proc{procView: procView{gen: 5, slot: slot, state: procServing}} }
	for _, tt := range []struct {
		name    string
		procs   []*proc
		crashed []int
		want    int
	}{
		{"all", []*proc{serving(0), serving(1), serving(2)}, nil, 3},
		{"the last is still to come", []*proc{serving(0), serving(1)}, nil, 2},
		{"one has crashed: others accept for it", []*proc{serving(0), serving(2)}, []int{1}, 3},
		{"one of another generation", []*proc{serving(0), {procView: procView{gen: 4, slot: 1, state: procServing}}}, nil, 1},
		{"one that drains", []*proc{serving(0), {procView: procView{gen: 5, slot: 1, state: procDraining}}}, nil, 1},
	} {
		m := &master{gen: 5, want: 3, procs: map[int]*proc{}}
		for pid, p := range tt.procs {
			m.procs[pid] = p
		}
		for _, slot := range tt.crashed {
			m.crashes.died(slot, 3, 0, "", now)
		}
		if got := m.servingSlots(); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
