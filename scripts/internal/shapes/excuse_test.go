package main

import (
	"testing"
	"time"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestExcuse is the tables in master/README.md of what may happen to a connection.
func TestExcuse(t *testing.T) {
	for _, tc := range []struct {
		name string
		f    facts
		want bool
	}{
		{"closed without a reason", facts{kind: load.EOF}, false},
		{"silence", facts{kind: load.Hang}, false},
		{"silence, and its worker was killed", facts{kind: load.Hang, held: true}, false},
		{"silence, and there was no baton", facts{kind: load.Hang, down: true}, false},
		{"silence beyond drain_timeout", facts{kind: load.Hang, lingers: true, replaced: true, drained: true}, false},
		{"silence of a listener that left", facts{kind: load.Hang, left: true, replaced: true, drained: true}, false},
		{"silence where nobody serves", facts{kind: load.Hang, left: true, late: true}, true},
		{"its worker was killed", facts{kind: load.ResetAfter, held: true}, true},
		{"there was no baton", facts{kind: load.Refused, down: true}, true},
		{"a stop cuts a request", facts{kind: load.ResetAfter, down: true, begun: true}, false},
		{"a reload closes what moves", facts{kind: load.EOF, replaced: true, drained: true}, false},
		{"a reload closes what lingers", facts{kind: load.EOF, lingers: true, replaced: true}, false},
		{"beyond drain_timeout it may", facts{kind: load.EOF, lingers: true, replaced: true, drained: true}, true},
		{"a listener leaves, and cuts", facts{kind: load.EOF, left: true, replaced: true}, false},
		{"beyond drain_timeout that may be", facts{kind: load.EOF, left: true, replaced: true, drained: true}, true},
		{"a wrong answer", facts{kind: load.Wrong, lingers: true, replaced: true, drained: true}, false},
		{"an error", facts{kind: load.BadStatus, lingers: true, replaced: true, drained: true}, false},
		{"refused", facts{kind: load.Refused, lingers: true, replaced: true, drained: true}, false},
		{"too many connections, and no answer", facts{kind: load.Hang, shed: true}, false},
		{"too many connections, and refused", facts{kind: load.Refused, shed: true}, false},
		{"too many connections", facts{kind: load.EOF, shed: true}, true},
		{"goodbye in a reload", facts{kind: load.Goodbye, lingers: true, replaced: true}, true},
		{"goodbye without one", facts{kind: load.Goodbye, lingers: true}, false},
		{"a datagram", facts{kind: load.Hang, datagram: true}, false},
		{"a datagram in a reload", facts{kind: load.Hang, datagram: true, replaced: true, drained: true}, false},
		{"a datagram of a killed worker", facts{kind: load.Hang, datagram: true, stirred: true}, true},
	} {
		if why := excuse(tc.f); (why != "") != tc.want {
			t.Errorf("%s: %q", tc.name, why)
		}
	}
}

// TestFacts: the ledger knows what was in force in a connection's time.
func TestFacts(t *testing.T) {
	l := newLedger()
	plain, staying := at("127.0.0.1"), at("127.0.0.1")
	staying.NoHandover = true
	web := listening(plain).targets()[0]
	fail := func(made time.Time) facts {
		f := load.Failure{Kind: load.EOF, Made: made, Time: time.Now(), Local: "127.0.0.1:1", Remote: "127.0.0.1:2"}
		return l.facts(web, f)
	}
	long := -2 * slack // spans are counted a little longer than they were
	l.settle(listening(plain), "v1")
	l.epochs[0].from = l.epochs[0].from.Add(10 * long)
	if f := fail(time.Now().Add(long)); f.lingers || f.left || f.replaced {
		t.Errorf("nothing has happened, and %+v", f)
	}
	l.turn()
	l.settle(listening(staying), "v1")
	if f := fail(time.Now().Add(long)); !f.lingers || !f.replaced || f.drained || f.left {
		t.Errorf("hand-over was switched off, and %+v", f)
	}
	l.settle(listening(), "v1")
	if f := fail(time.Now().Add(long)); !f.left || f.late {
		t.Errorf("the listener has left, and %+v", f)
	}
	if f := fail(time.Now()); !f.late {
		t.Errorf("it was made afterwards, and %+v", f)
	}
	if f := fail(time.Now().Add(long)); f.held {
		t.Errorf("nobody was killed, and %+v", f)
	}
	l.kills(map[mastertest.Ends]bool{{Client: "127.0.0.1:1", Server: "127.0.0.1:2"}: true})
	if f := fail(time.Now().Add(long)); !f.held {
		t.Errorf("its worker was killed, and %+v", f)
	}
	if f := fail(time.Now()); f.held {
		t.Errorf("another connection on the same port, and %+v", f)
	}
}

func TestDrained(t *testing.T) {
	l := newLedger()
	s := listening(at("127.0.0.1"))
	s.Values["drain_timeout"] = 4
	begin := time.Now()
	l.epochs = []epoch{{span{from: begin}, s, true}}
	l.turns = []time.Time{begin.Add(10 * time.Second)}
	for _, tc := range []struct {
		made, failed      time.Duration
		replaced, drained bool
	}{
		{0, 9 * time.Second, false, false},
		{0, 12 * time.Second, true, false},
		{0, 14 * time.Second, true, true},
		{12 * time.Second, 20 * time.Second, false, false},
	} {
		r, d := l.drained(begin.Add(tc.made), begin.Add(tc.failed))
		if r != tc.replaced || d != tc.drained {
			t.Errorf("from %v to %v: replaced %v, drained %v", tc.made, tc.failed, r, d)
		}
	}
}
