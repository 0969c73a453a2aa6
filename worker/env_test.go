package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"baton/worker/wire"
)

func TestEnvSaysWhatTheSetupSaid(t *testing.T) {
	t.Parallel()
	ln := shared(t, "tcp", "127.0.0.1:0")
	d := direct(t, ln)
	e := d.Env()
	if e.Generation() != 3 || e.Slot() != 1 || e.Version() != "v" || string(e.Payload()) != "payload" {
		t.Errorf("generation %d, slot %d, version %q, payload %q", e.Generation(), e.Slot(), e.Version(), e.Payload())
	}
	if s := e.Sockets(); len(s) != 1 || s[0].Name != "0" || s[0].Address != ln.Addr().String() ||
		s[0].Transport != "tcp" {
		t.Errorf("%+v", s)
	}
	d.Drain(stops)
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestReadyTwice(t *testing.T) {
	t.Parallel()
	d := direct(t)
	if closed(d.Ready()) {
		t.Error("ready by itself")
	}
	d.Env().Ready()
	d.Env().Ready()
	if !closed(d.Ready()) {
		t.Error("not ready")
	}
}

func TestStoppingComesWithStop(t *testing.T) {
	t.Parallel()
	d := direct(t)
	d.Drain(noEnds)
	if closed(d.Env().Stopping()) {
		t.Error("a reload is no stop")
	}
	d.Drain(stops)
	d.Drain(stops)
	if !closed(d.Env().Stopping()) {
		t.Error("a stop that comes during a drain is not told")
	}
}

func within(d time.Duration) wire.Drain { return wire.Drain{Deadline: monotonic() + int64(d)} }

func TestDeadlineMovesCloserOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := direct(t)
		e := d.Env()
		if !e.Deadline().IsZero() {
			t.Error("a deadline before the drain")
		}
		var last time.Time
		for _, step := range []struct {
			in     time.Duration
			closer bool
		}{{time.Hour, true}, {2 * time.Hour, false}, {time.Minute, true}, {time.Hour, false}} {
			moved := e.DeadlineMoved()
			d.Drain(within(step.in))
			if closed(moved) != (step.closer && !last.IsZero()) {
				t.Errorf("after %v: told %v that the deadline has moved", step.in, closed(moved))
			}
			if e.Deadline().Equal(last) == step.closer {
				t.Errorf("after %v: %v, before it %v", step.in, e.Deadline(), last)
			}
			last = e.Deadline()
		}
		if closed(e.Cut()) {
			t.Error("cut before the deadline")
		}
		<-e.Cut()
		if time.Now().Before(last) {
			t.Errorf("cut %v early", time.Until(last))
		}
		d.Drain(within(-time.Second)) // after the cut: nothing is cut twice
		synctest.Wait()
	})
}

func TestDeadlineInThePastCutsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := direct(t)
		d.Drain(within(-time.Hour))
		begin := time.Now()
		<-d.Env().Cut()
		if !time.Now().Equal(begin) {
			t.Error("it waited")
		}
	})
}
