package listen

import (
	"slices"
	"strings"
	"testing"
	"time"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// TestListenerThatCannotListen: it alone is not served, that is one warning, however often it is tried, and workers
// are told when it listens.
func TestListenerThatCannotListen(t *testing.T) {
	t.Parallel()
	for name, perSlot := range map[string]bool{"one socket": false, "a socket for each slot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, bad := freeAddress(), freeAddress()
			o := newOwner(t)
			listeners := []Listener{{Address: bad, ReusePort: perSlot}, {Address: good}}
			if err := o.Open(o, Config{Listeners: listeners, Slots: 2, Generation: 1}); err != nil {
				t.Fatal(err)
			}
			ln := foreign(t, bad)
			o.start(2)
			for range 20 {
				o.check(time.Minute)
			}
			if w := o.said; len(w) != 1 || !strings.Contains(w[0], bad) {
				t.Errorf("it was said %q", w)
			}
			st := o.Status()
			if st[0].State != "failed" || st[0].Error == "" || st[1].State != "listening" {
				t.Errorf("%+v", st)
			}
			if got := o.heard(0); len(got) != 0 {
				t.Errorf("the workers were told %q", got)
			}
			_ = ln.Close()
			if next, changed := o.check(time.Minute); next != 0 || !changed {
				t.Errorf("it is not served: %q", o.warnings)
			}
			if got := o.heard(1); !slices.Equal(got, []string{wire.Listening{}.Kind()}) {
				t.Errorf("the workers were told %q", got)
			}
			if len(o.warnings) != 0 || len(o.said) != 2 || o.Status()[0].State != "listening" {
				t.Errorf("warnings %q, it was said %q", o.warnings, o.said)
			}
			o.knock(bad, 20)
		})
	}
}

// TestRetriesHavePauses: that grow up to a limit.
func TestRetriesHavePauses(t *testing.T) {
	t.Parallel()
	bad := freeAddress()
	o := newOwner(t)
	if err := o.Open(o, Config{Listeners: []Listener{{Address: bad}}, Slots: 1, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	foreign(t, bad)
	before := monotime.Now()
	o.Listen()
	for i, want := range []int{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		pause := time.Duration(want) * time.Millisecond
		if o.retryAt < before.Add(pause) || o.retryAt > monotime.Now().Add(pause) {
			t.Fatalf("pause %d is %v, want %v", i, o.retryAt.Sub(before), pause)
		}
		before = monotime.Now()
		o.Check(o.retryAt, false)
	}
	o.Close()
	if next, _ := o.Check(monotime.Now().Add(time.Minute), false); next != 0 {
		t.Error("it is tried after the end")
	}
}
