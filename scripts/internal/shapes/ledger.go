package main

import (
	"slices"
	"sync"
	"time"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// ledger is what has happened so far, as far as it is an excuse for a client's failure.
type ledger struct {
	mu     sync.Mutex
	epochs []epoch
	stirs  []span // of workers that were killed or stopped
	downs  []span
	turns  []time.Time // when workers may have been told to drain
	held   map[mastertest.Ends]time.Time
	paused []*stopped
}

// span is a time; to is zero while it lasts.
type span struct{ from, to time.Time }

// epoch is the time in which a shape was, or may have been, in force.
type epoch struct {
	span
	shape *shape
	moves bool // the program hands connections over
}

// stopped is a worker that was stopped: if it dies, so does what it holds.
type stopped struct {
	pid  int
	held map[mastertest.Ends]bool
}

// slack is how much later than it happened somebody may learn of something.
const slack = time.Second

func newLedger() *ledger { return &ledger{held: map[mastertest.Ends]time.Time{}} }

// meets reports whether a span and a time from…to have something in common.
func (s span) meets(from, to time.Time) bool {
	return !s.from.After(to) && (s.to.IsZero() || s.to.Add(slack).After(from))
}

// begin notes that from now on another shape may be in force beside the present one.
func (l *ledger) begin(s *shape, program string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epochs = append(l.epochs, epoch{span{from: time.Now()}, s, variantOf(program).moves})
}

// settle notes that one shape is in force, and no other.
func (l *ledger) settle(s *shape, program string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for i := range l.epochs {
		if l.epochs[i].to.IsZero() {
			l.epochs[i].to = now
		}
	}
	l.epochs = append(l.epochs, epoch{span{from: now}, s, variantOf(program).moves})
}

// turn notes that workers may be told to drain from now on.
func (l *ledger) turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns = append(l.turns, time.Now())
}

// open begins a span of a list, and returns what ends it.
func (l *ledger) open(list *[]span) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(*list)
	*list = append(*list, span{from: time.Now()})
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		(*list)[i].to = time.Now()
	}
}

// down and stir are around a time without a baton, and one in which a worker is not well.
func (l *ledger) down() (up func())   { return l.open(&l.downs) }
func (l *ledger) stir() (done func()) { return l.open(&l.stirs) }

// kills notes what a worker holds that is about to be killed.
func (l *ledger) kills(served map[mastertest.Ends]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range served {
		l.held[e] = time.Now()
	}
}

// stops notes a worker that has been stopped.
func (l *ledger) stops(pid int, served map[mastertest.Ends]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = append(l.paused, &stopped{pid, served})
}

// excuse is for [load.Config].
func (l *ledger) excuse(t target, f load.Failure) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return excuse(l.facts(t, f))
}

// facts looks up what is known of a failure.
func (l *ledger) facts(t target, f load.Failure) facts {
	made := f.Made
	if made.IsZero() {
		made = f.Time
	}
	r := facts{
		kind: f.Kind, datagram: t.Network == "udp",
		down:    anyMeets(l.downs, made, f.Time),
		stirred: anyMeets(l.stirs, f.Time.Add(-bound-slack), f.Time),
		left:    l.left(t, made, f.Time), late: l.late(t, made),
		lingers: l.lingers(t, made, f.Time),
	}
	r.held = l.wasHeld(t, f, made)
	r.begun = l.begun(f)
	r.shed = t.Process == "http" && l.crowded(made, f.Time)
	r.replaced, r.drained = l.drained(made, f.Time)
	return r
}

func anyMeets(list []span, from, to time.Time) bool {
	for _, s := range list {
		if s.meets(from, to) {
			return true
		}
	}
	return false
}

// quickly is how soon a request that was sent has come to a worker.
const quickly = 300 * time.Millisecond

// begun reports whether a request was in progress when a baton was told to stop, or its supervisor killed, and had to
// be answered: no worker was stopped or killed meanwhile.
func (l *ledger) begun(f load.Failure) bool {
	for _, d := range l.downs {
		if d.meets(f.Began, f.Time) && f.Began.Add(quickly).Before(d.from) {
			return !anyMeets(l.stirs, f.Began, f.Time)
		}
	}
	return false
}

// wasHeld reports whether a killed process had the connection. What has no ends by which it could be known counts as
// held if any worker was killed in its time.
func (l *ledger) wasHeld(t target, f load.Failure, made time.Time) bool {
	if t.Network == "unix" || f.Local == "" {
		return anyMeets(l.stirs, made, f.Time)
	}
	ends := mastertest.Ends{Client: f.Local, Server: f.Remote}
	if at, ok := l.held[ends]; ok && !made.After(at) {
		return true
	}
	for _, s := range l.paused {
		if s.held[ends] && dies(s.pid) {
			return true
		}
	}
	return false
}

// dies reports whether a process is dead, or is so in a moment: its files are closed before it shows.
func dies(pid int) bool {
	for end := time.Now().Add(slack / 4); ; time.Sleep(time.Millisecond) {
		p, err := mastertest.ReadProc(pid)
		if err != nil || p.State == "Z" || p.State == "X" {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// left reports whether at some time nobody promised to serve the target.
func (l *ledger) left(t target, from, to time.Time) bool {
	for _, e := range l.epochs {
		if e.meets(from, to) && !e.shape.serves(t) {
			return true
		}
	}
	return false
}

// late reports whether that was so when the connection was made.
func (l *ledger) late(t target, made time.Time) bool { return l.left(t, made, made) }

// crowded reports whether workers may have had as many connections as they take.
func (l *ledger) crowded(from, to time.Time) bool {
	return slices.ContainsFunc(l.epochs, func(e epoch) bool {
		return e.meets(from, to) && e.shape.get("max_connections") == crowded
	})
}

// lingers reports whether the connection could not move at some time.
func (l *ledger) lingers(t target, from, to time.Time) bool {
	for _, e := range l.epochs {
		if e.meets(from, to) && !(e.moves && e.shape.moves(t)) {
			return true
		}
	}
	return false
}

// drained reports whether workers were told to drain since a connection was made, and whether their time was over when
// it failed.
func (l *ledger) drained(made, failed time.Time) (replaced, drained bool) {
	limit := time.Hour
	first, turns := time.Time{}, 0
	generations := 1000
	for _, e := range l.epochs {
		if e.meets(made, failed) {
			limit = min(limit, e.shape.drain())
			generations = min(generations, e.shape.get("max_generations"))
			if e.shape.recycles() {
				first = made
			}
		}
	}
	for _, at := range l.turns {
		if at.Add(slack).After(made) && !at.After(failed) {
			turns++
			if first.IsZero() || at.Before(first) {
				first = at
			}
		}
	}
	if first.IsZero() {
		return false, false
	}
	return true, !failed.Before(first.Add(limit)) || turns >= generations
}

// recycles reports whether workers are replaced without being asked.
func (s *shape) recycles() bool {
	return s.get("max_requests") > 0 || s.get("max_age") > 0 || s.get("max_memory") > 0 || s.get("hang_timeout") > 0
}
