package master

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"baton/master/internal/message"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// TestFailsBeforeCommit: with the reason, and nothing is left.
func TestFailsBeforeCommit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(v *virtual)
		want string
	}{
		{"a worker crashes", func(v *virtual) {
			v.living()[0].says(wire.Ready{})
			v.living()[1].dies(3 << 8)
		}, "worker 1 (pid 4194305): ended before it was ready: exit status 3"},
		{"a worker is not ready in time", func(v *virtual) {
			v.living()[1].says(wire.Ready{})
			time.Sleep(10*time.Second - 1)
			if v.ended() {
				v.t.Error("it was not given its time")
			}
			time.Sleep(time.Nanosecond)
		}, "worker 0 (pid 4194304): not ready within 10s"},
		{"the sponsor has died", func(v *virtual) {
			v.ready()
			v.say(message.Refused{Error: "the reload was given up"})
		}, "master: COMMIT refused: the reload was given up"},
		{"a stop", func(v *virtual) { v.cause(eventStop) }, "master: stopping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			inVirtualTime(t, message.RoleSuccessor, Config{}, func(v *virtual) {
				tt.do(v)
				if f, _ := heard[message.Fail](v); !v.ended() || f.Error != tt.want || f.Code != exitSystem {
					t.Errorf("ended %t: %+v, want %q", v.ended(), f, tt.want)
				}
				if left := v.living(); len(left) > 0 {
					t.Errorf("%d workers are left", len(left))
				}
			})
		})
	}
}

// TestCannotStart: not even a process.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, "", Config{}, func(v *virtual) {
		v.starts = unix.EAGAIN
		v.say(message.Welcome{Role: message.RoleFirst, Generation: 1}, message.End{})
		if !v.ended() || !errors.Is(v.err, unix.EAGAIN) {
			t.Errorf("ended %t: %v", v.ended(), v.err)
		}
	})
}

// TestTakesOver is a whole takeover, of a generation with a worker that still serves a request.
func TestTakesOver(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleSuccessor, Config{DrainTimeout: time.Minute}, func(v *virtual) {
		old, item := v.older(4, 0)
		v.commit(item)
		if !v.flipped {
			t.Error("the predecessor was not told to go")
		}
		for _, w := range v.living() {
			if _, ok := told[wire.Go](w); !ok {
				t.Errorf("the worker in slot %d may not accept", w.slot)
			}
		}
		if d, ok := told[wire.Drain](old); !ok || d.Stop {
			t.Errorf("the old worker was told %+v", d)
		}
		old.says(wire.Bye{})
		old.exit(0)
		if _, ok := heard[message.AwaitExit](v); !ok {
			t.Error("nobody asked what has become of the old worker")
		}
		v.say(message.Exited{PID: old.pid, Known: true})
		if o, ok := heard[message.Oldest](v); !ok || o.Generation != 5 {
			t.Errorf("the oldest: %+v", o)
		}
	})
}

// TestStartsASuccessor: one that fails is reported; one that takes over is left all workers, which nobody reads from
// any more.
func TestStartsASuccessor(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleFirst, Config{}, func(v *virtual) {
		v.commit()
		v.say(message.Reload{Attempt: "a"})
		if u, ok := heard[message.Upgrading](v); !ok || u.Attempt != "a" {
			t.Errorf("%+v", u)
		}
		v.say(message.Reload{Attempt: "b"})
		if f, ok := heard[message.UpgradeFailed](v); !ok || f.Attempt != "b" {
			t.Errorf("two at once: %+v", f)
		}
		v.successor <- errors.New("exit status 100")
		if f, ok := heard[message.UpgradeFailed](v); !ok || f.Attempt != "a" || v.ended() {
			t.Errorf("%+v", f)
		}
		v.say(message.Reload{Attempt: "c"}, message.Superseded{})
		if _, ok := heard[message.Leaving](v); !ok || !v.ended() || v.err != nil {
			t.Errorf("ended %t: %v", v.ended(), v.err)
		}
		for _, w := range v.living() {
			if w.says(wire.Retire{}); len(w.peer.in) != 1 {
				t.Errorf("somebody reads what the worker in slot %d says", w.slot)
			}
		}
	})
}

// TestDrainDeadline: a worker that never exits is killed, a second after its deadline, by the supervisor, whose child
// it is.
func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleSuccessor, Config{DrainTimeout: time.Minute}, func(v *virtual) {
		old, item := v.older(4, 0)
		v.commit(item)
		time.Sleep(61*time.Second - 1)
		if k, ok := heard[message.Kill](v); ok {
			t.Errorf("%+v was asked for too early", k)
		}
		time.Sleep(time.Nanosecond)
		if k, ok := heard[message.Kill](v); !ok || k.PID != old.pid {
			t.Errorf("after the deadline: %+v", k)
		}
	})
}

// TestMaxGenerations: of four that drain, and two that may, the oldest two have two seconds left.
func TestMaxGenerations(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleSuccessor, Config{DrainTimeout: time.Minute, MaxGenerations: 2}, func(v *virtual) {
		var old [4]*virtualWorker
		var items [4]message.Item
		for i := range old {
			old[i], items[i] = v.older(i+1, 0)
		}
		v.commit(items[:]...)
		for i, w := range old {
			want := time.Minute
			if i < 2 {
				want = 2 * time.Second
			}
			d, _ := told[wire.Drain](w)
			if left := monotime.Time(d.Deadline).Sub(monotime.Now()); left != want {
				t.Errorf("generation %d has %v left, want %v", i+1, left, want)
			}
		}
	})
}

// TestCrashes: the first one of a slot costs nothing, and each after it twice as much as the one before.
func TestCrashes(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleFirst, Config{Workers: 4}, func(v *virtual) {
		v.commit()
		for _, pause := range []time.Duration{
			0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond,
		} {
			v.living()[1].dies(unix.WaitStatus(unix.SIGSEGV))
			if pause > 0 {
				time.Sleep(pause - time.Millisecond)
				if v.ended(); len(v.living()) != 3 {
					t.Errorf("the slot is filled before %v", pause)
				}
				time.Sleep(time.Millisecond)
			}
			if v.ended(); len(v.living()) != 4 {
				t.Fatalf("the slot is not filled within %v", pause)
			}
			v.ready()
		}
		if v.m.counts.Crashes != 4 {
			t.Errorf("%d crashes are counted", v.m.counts.Crashes)
		}
	})
}

// TestStop: every worker of every generation drains; one that does not exit is killed.
func TestStop(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleSuccessor, Config{}, func(v *virtual) {
		old, item := v.older(4, 0)
		v.commit(item)
		v.say(message.Stop{Deadline: int64(monotime.Now().Add(8 * time.Second))})
		for _, w := range append(v.living(), old) {
			if d, ok := told[wire.Drain](w); !ok || !d.Stop ||
				monotime.Time(d.Deadline).Sub(monotime.Now()) != 8*time.Second {
				t.Errorf("the worker in slot %d was told %+v", w.slot, d)
			}
		}
		ours := v.living()
		ours[0].says(wire.Bye{})
		ours[0].dies(0)
		time.Sleep(9 * time.Second)
		if k, ok := heard[message.Kill](v); !ok || k.PID != old.pid || !ours[1].killed.Load() {
			t.Errorf("after the deadline: %+v; ours is killed: %t", k, ours[1].killed.Load())
		}
		old.exit(unix.WaitStatus(unix.SIGKILL))
		if v.ended() {
			t.Error("it does not wait until the supervisor has reaped its child")
		}
		if v.say(message.Exited{PID: old.pid, Known: true}); !v.ended() || v.err != nil {
			t.Errorf("ended %t: %v", v.ended(), v.err)
		}
	})
}

// TestStopBeforeAlone: the predecessor's workers, which are not known yet, drain as well.
func TestStopBeforeAlone(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleSuccessor, Config{}, func(v *virtual) {
		old, item := v.older(4, 0)
		v.reach(phaseLeaving)
		for _, w := range v.living() {
			w.says(wire.Bye{})
			w.dies(0)
		}
		if v.ended() {
			t.Fatal("it has left a worker behind")
		}
		v.say(message.TakeoverComplete{})
		_ = v.supervisor.Post(item, old.token)
		v.say(message.End{})
		if d, ok := told[wire.Drain](old); !ok || !d.Stop {
			t.Errorf("the old worker was told %+v", d)
		}
	})
}

// TestSupervisorDiesWithOldWorkers: nobody says any more that they have exited, and the master still kills them.
func TestSupervisorDiesWithOldWorkers(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleSuccessor, Config{StopTimeout: 8 * time.Second}, func(v *virtual) {
		old, item := v.older(4, 0)
		v.commit(item)
		v.cause(eventHungUp)
		for _, w := range v.living() {
			w.dies(0)
		}
		time.Sleep(9*time.Second - 1)
		if v.ended() || old.killed.Load() {
			t.Errorf("before the deadline: ended %t, killed %t", v.ended(), old.killed.Load())
		}
		if time.Sleep(time.Nanosecond); !v.ended() || !old.killed.Load() {
			t.Errorf("after the deadline: ended %t, killed %t", v.ended(), old.killed.Load())
		}
	})
}

// TestResizeInAReload: what the supervisor has held back comes with Alone, and grows the new generation.
func TestResizeInAReload(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleSuccessor, Config{}, func(v *virtual) {
		old, item := v.older(4, 0)
		v.commit(item)
		v.say(message.Resize{Workers: 4, Seq: 3})
		if p, ok := heard[message.Serving](v); !ok || p.Workers != 4 {
			t.Errorf("%+v", p)
		}
		v.ready()
		for _, w := range v.living() {
			if _, ok := told[wire.Go](w); !ok {
				t.Errorf("the worker in slot %d may not accept", w.slot)
			}
		}
		v.say(message.Resize{Delta: -1, Seq: 4})
		if d, ok := told[wire.Drain](v.living()[3]); !ok || d.Stop {
			t.Errorf("the worker of the last slot was told %+v", d)
		}
		if d, _ := told[wire.Drain](old); d.Stop {
			t.Errorf("the old worker was told %+v", d)
		}
	})
}

// TestHang: a worker whose heart stops is killed, and its slot is filled; one with a heartbeat is not.
func TestHang(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleFirst, Config{HangTimeout: 4 * time.Second}, func(v *virtual) {
		v.commit()
		hung, well := v.living()[0], v.living()[1]
		for range 5 {
			time.Sleep(time.Second)
			synctest.Wait()
			(&watching{v.m.heartbeats, v.m.procs, t}).beats(well.pid)
		}
		v.ready()
		if !hung.killed.Load() || well.killed.Load() || len(v.living()) != 2 || v.m.counts.Hung != 1 {
			t.Errorf("killed %t and %t; %d workers, %+v", hung.killed.Load(), well.killed.Load(), len(v.living()),
				v.m.counts)
		}
	})
}

// TestHangTimeoutIsOff: without it a worker may be without a sign of life for ever.
func TestHangTimeoutIsOff(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleFirst, Config{}, func(v *virtual) {
		v.commit()
		time.Sleep(24 * time.Hour)
		if v.ended(); len(v.living()) != 2 || len(v.workers) != 2 {
			t.Errorf("%d workers live, %d were started", len(v.living()), len(v.workers))
		}
	})
}

// TestRecycles: a worker that has answered enough requests drains when another one serves in its slot, and not before.
// The first one that is to take its place never gets ready: it is killed, and the next one comes a second later.
func TestRecycles(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleFirst, Config{Workers: 1}, func(v *virtual) {
		v.commit()
		old := v.living()[0]
		old.says(wire.Retire{})
		if len(v.living()) != 2 {
			t.Fatal("nobody is to take its place")
		}
		time.Sleep(10 * time.Second)
		if v.ended(); len(v.living()) != 1 || len(v.m.recycling.Warnings()) != 1 {
			t.Errorf("after ready_timeout: %d workers, %q", len(v.living()), v.m.recycling.Warnings())
		}
		time.Sleep(time.Second)
		if v.ended(); len(v.living()) != 2 {
			t.Fatal("it is not tried again")
		}
		if d, ok := told[wire.Drain](old); ok {
			t.Errorf("the old worker was told %+v", d)
		}
		v.ready()
		if _, ok := told[wire.Drain](old); !ok || v.m.counts.Recycled != 1 || len(v.m.recycling.Warnings()) != 0 {
			t.Errorf("the old worker drains: %t; %+v, %q", ok, v.m.counts, v.m.recycling.Warnings())
		}
	})
}

// TestStatusDoesNotWait: a worker that does not answer is listed as silent after half a second.
func TestStatusDoesNotWait(t *testing.T) {
	t.Parallel()
	inVirtualTime(t, message.RoleFirst, Config{}, func(v *virtual) {
		v.commit()
		v.say(message.StatusRequest{ID: 9})
		v.living()[0].says(wire.Stats{ID: 9, State: "serving"})
		time.Sleep(statsTimeout - 1)
		if _, ok := heard[message.StatusAnswer](v); ok {
			t.Error("it has not waited for the other one")
		}
		time.Sleep(time.Nanosecond)
		if a, ok := heard[message.StatusAnswer](v); !ok || a.ID != 9 {
			t.Errorf("%+v", a)
		}
	})
}
