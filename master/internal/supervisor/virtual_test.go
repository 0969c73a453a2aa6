package supervisor

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
)

// wantKilled checks when a process was killed, since the world has begun; "": never.
func (w *world) wantKilled(p *played, at string) {
	w.t.Helper()
	if got := w.killedAt(p); got != at {
		w.t.Errorf("killed at %q, want %q", got, at)
	}
}

func (p *played) wantHeard(kinds ...string) {
	p.w.t.Helper()
	if got := p.heard(); !slices.Equal(got, kinds) {
		p.w.t.Errorf("heard %q, want %q", got, kinds)
	}
}

// wantReload checks how the last reload ended.
func (w *world) wantReload(ok bool, reason string) {
	w.t.Helper()
	r := w.results.last()
	if r.OK != ok || !strings.Contains(r.Error, reason) || len(w.results.All) == 0 {
		w.t.Errorf("%+v, want %v, %q", r, ok, reason)
	}
}

// A successor that is not ready in time is killed, and nothing has changed.
func TestSuccessorThatIsLate(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		successor := w.succeeded(master)
		successor.say(message.Preparing{ReadyTimeout: int64(3 * time.Second)})
		w.pass(3*time.Second + readyMargin)
		w.wantKilled(successor, "3.25s")
		master.say(message.UpgradeFailed{Attempt: w.attempt.id, Error: "it was killed"})
		w.wantReload(false, "not ready within 3s")
		if w.current != master.c || w.generation != 1 || !w.isRunning(master) {
			t.Errorf("generation %d, master %+v", w.generation, w.current)
		}
	})
}

// If nobody says that a killed successor has exited, the reload has failed a second later.
func TestSuccessorThatNobodyHearsOf(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		w.send(syscall.SIGHUP)
		master.say(message.Upgrading{Attempt: w.attempt.id}) // and no hello
		w.pass(defaultReady + readyMargin + endLimit - 1)
		if w.attempt == nil {
			t.Error("given up too early")
		}
		w.pass(1)
		w.wantReload(false, "not ready within 10s")
	})
}

// A master that does not answer to Reload does not make the client wait for ever.
func TestMasterThatDoesNotUpgrade(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		w.send(syscall.SIGHUP)
		w.pass(w.masterLimit())
		w.wantReload(false, "does not answer")
		w.wantKilled(master, "")
	})
}

// A superseded master has a second to exit. Until then the new one leaves its workers alone, unless it says that it
// leaves.
func TestSupersededMasterThatStays(t *testing.T) {
	t.Parallel()
	for leaves, heard := range map[bool][]string{false: {"committed"}, true: {"committed", "takeover-complete"}} {
		inWorld(t, func(w *world) {
			master := w.served()
			successor := w.succeeded(master)
			successor.say(message.Commit{Seen: 1})
			if leaves {
				master.say(message.Leaving{})
			}
			w.pass(supersededLimit - 1)
			w.wantKilled(master, "")
			successor.wantHeard(heard...)
			w.pass(1)
			w.wantKilled(master, "1s")
			if !leaves {
				successor.wantHeard("takeover-complete")
			}
			if w.old != nil || w.current != successor.c || w.current.phase != phaseCurrent {
				t.Errorf("old %+v, current %+v", w.old, w.current)
			}
		})
	}
}

// Masters that die at once are started again four times at once, then with pauses that grow.
func TestRestartsBackOffInTime(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.served().die(unix.WaitStatus(unix.SIGKILL))
		w.pass(time.Millisecond)
		var pauses []time.Duration
		for range 8 {
			from, n := time.Now(), len(w.starts)
			w.exit(w.starts[n-1].pid, 7<<8)
			synctest.Wait()
			for len(w.starts) == n {
				w.pass(time.Millisecond)
			}
			pauses = append(pauses, time.Since(from).Round(50*time.Millisecond)) // it looks once a millisecond
		}
		want := []time.Duration{0, 0, 0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}
		if !slices.Equal(pauses[:len(want)], want) {
			t.Errorf("%v, want %v", pauses, want)
		}
	})
}

// A restarted master that does not take over in time is killed, and the next one is started.
func TestRestartedMasterThatIsLate(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.served().die(unix.WaitStatus(unix.SIGKILL))
		again := w.startedMaster()
		if again.c.phase != phaseRestart {
			t.Fatalf("phase %d", again.c.phase)
		}
		w.pass(restartLimit)
		w.wantKilled(again, "10s")
		next := w.startedMaster()
		next.say(message.Commit{})
		next.wantHeard("committed", "takeover-complete")
		if w.generation != 1 || w.restarts.Total != 2 {
			t.Errorf("generation %d, %d restarts", w.generation, w.restarts.Total)
		}
	})
}

// What does not end by itself is killed at the end of the stop's time.
func TestStopHasAnEnd(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		master.say(message.Preparing{StopTimeout: int64(time.Minute), DrainTimeout: int64(time.Hour)})
		w.send(syscall.SIGTERM)
		master.wantHeard("stop")
		w.pass(time.Minute - 1)
		w.wantKilled(master, "")
		w.pass(1)
		w.wantKilled(master, "1m0s")
		if code := w.end(); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	})
}

// A second signal within half a second is the same one, a later one kills.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		w.send(syscall.SIGINT)
		w.pass(sameSignal - 1)
		w.send(syscall.SIGTERM)
		w.wantKilled(master, "")
		w.pass(1)
		w.send(syscall.SIGTERM)
		w.wantKilled(master, sameSignal.String())
	})
}

// Orphans are asked to end when nobody else is left, and killed a second later.
func TestOrphansAtAStop(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master, orphan := w.served(), w.fork()
		w.send(syscall.SIGTERM)
		if _, told := w.told[orphan]; told {
			t.Error("it was told while the master was there")
		}
		master.die(0)
		if w.told[orphan] != unix.SIGTERM {
			t.Errorf("%v", w.told[orphan])
		}
		w.pass(orphanGrace)
		if w.killed[orphan] != "1s" {
			t.Errorf("killed at %q", w.killed[orphan])
		}
	})
}

// A burst of requests makes one reload at once, and one that serves all that came since half a second later.
func TestBurstOfSignals(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		successor := w.succeeded(master)
		successor.say(message.Commit{Seen: 1})
		master.die(0)
		for range burstSize {
			w.send(syscall.SIGHUP)
			w.pass(10 * time.Millisecond)
		}
		successor.say(message.Serving{Workers: 2})
		successor.heard()
		w.pass(burstPause - burstSize*10*time.Millisecond - 1)
		successor.wantHeard()
		w.pass(1)
		successor.wantHeard("reload")
		if w.attempt.seen != 1+burstSize {
			t.Errorf("it serves %d requests", w.attempt.seen)
		}
	})
}

// What is asked of a master in the middle of a reload is told to the one that is the master afterwards.
func TestHeldBackUntilTheTakeoverIsComplete(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		successor := w.succeeded(master)
		w.send(syscall.SIGTTIN, syscall.SIGUSR1)
		master.wantHeard("reload", "reopen")
		successor.say(message.Commit{Seen: 1})
		successor.wantHeard("committed")
		master.say(message.Leaving{})
		successor.wantHeard("takeover-complete", "resize", "reopen")
	})
}

// A resize that the master does not answer is given up, so that reloads begin again.
func TestResizeThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		master := w.served()
		w.send(syscall.SIGTTIN, syscall.SIGHUP)
		master.wantHeard("resize")
		w.pass(w.masterLimit())
		master.wantHeard("reload")
	})
}

// The exit code of a first master that fails is the supervisor's.
func TestFirstMasterThatFails(t *testing.T) {
	t.Parallel()
	inWorld(t, func(w *world) {
		w.startedMaster().die(100 << 8)
		if code := w.end(); code != 100 {
			t.Errorf("exit code %d", code)
		}
	})
}
