package supervisor

import (
	"testing"
	"time"

	"baton/master/internal/message"
)

// What is asked of a master in the middle of a reload would be lost with it. It is held back, and given to whoever is
// the master afterwards.
func TestResizeInTheMiddleOfAReload(t *testing.T) {
	t.Parallel()
	t.Run("that goes well", func(t *testing.T) {
		t.Parallel()
		s, master, successor := reloading(t)
		sv := listening(t, s)
		answered := sv.asks("POST /resize?workers=5")
		sv.resizeBy(1)
		successor.says(message.Put{Name: EntryCount, Data: `{"count":2,"config":2}`})
		successor.says(message.Commit{Seen: 1})
		successor.hears(&message.Committed{})
		master.hears(&message.Superseded{}) // and nothing before
		master.says(message.Leaving{})
		successor.hears(&message.TakeoverComplete{})
		successor.hears(&message.Item{})
		successor.hears(&message.End{})
		hearsResizes(t, sv, successor, answered)
	})
	t.Run("that fails", func(t *testing.T) {
		t.Parallel()
		s, master, successor := reloading(t)
		sv := listening(t, s)
		answered := sv.asks("POST /resize?workers=5")
		sv.resizeBy(1)
		if !sv.held.resizes[0].sent.IsZero() || !sv.held.resizes[1].sent.IsZero() {
			t.Error("the master is told while the reload runs")
		}
		master.says(message.UpgradeFailed{Attempt: sv.attempt.id, Error: "no"})
		successor.dies()
		hearsResizes(t, sv, master, answered)
	})
	t.Run("whose master dies", func(t *testing.T) {
		t.Parallel()
		s, master, _ := reloading(t)
		sv := listening(t, s)
		answered := sv.asks("POST /resize?workers=5")
		sv.resizeBy(1)
		master.dies()
		again := sv.newActor(t, phaseRestart, 1<<29)
		sv.starting = again.s
		again.says(message.Commit{})
		again.hears(&message.Committed{})
		again.hears(&message.TakeoverComplete{})
		again.hears(&message.End{})
		hearsResizes(t, sv, again, answered)
	})
}

// hearsResizes: a is told to have five workers and then one more, and who has asked for five hears that they are there.
func hearsResizes(t *testing.T, sv *site, a actor, answered <-chan response) {
	t.Helper()
	for _, want := range []message.Resize{{Workers: 5, Seq: 1}, {Delta: 1, Seq: 2}} {
		var r message.Resize
		if a.hears(&r); r != want {
			t.Errorf("%+v, want %+v", r, want)
		}
	}
	sv.waitsFor(2)
	a.says(message.Put{Name: EntryCount, Data: `{"count":5,"config":2}`, Resized: 1})
	if r := sv.hears(answered, time.Now()); r.code != 200 || r.body != `{"workers":5}` {
		t.Errorf("%+v", r)
	}
	a.says(message.Put{Name: EntryCount, Data: `{"count":6,"config":2}`, Resized: 2})
	if sv.waitsFor(0); len(sv.held.resizes) != 0 {
		t.Errorf("%+v", sv.held.resizes)
	}
}

func (s *site) waitsFor(n int) {
	s.t.Helper()
	if s.front.answer(time.Now()); len(s.front.questions) != n {
		s.t.Errorf("%d questions, want %d", len(s.front.questions), n)
	}
}

// A reload begins when all that was asked for before is done, so that the successor reads it.
func TestReloadWaitsForResizes(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	sv.resizeBy(1)
	master.hears(&message.Resize{})
	sv.request("test", false)
	if sv.startReload(time.Now()); sv.attempt != nil {
		t.Error("a reload in the middle of a resize")
	}
	sv.resizeBy(1) // does not keep the reload from beginning
	master.says(message.Put{Name: EntryCount, Data: "{}", Resized: 1})
	if sv.startReload(time.Now()); sv.attempt == nil {
		t.Fatal("no reload")
	}
	master.hears(&message.Reload{})
	sv.request("test", false) // and the next reload not the resize
	sv.failAttempt()
	master.hears(&message.Resize{})
	if sv.startReload(time.Now()); sv.attempt != nil {
		t.Error("a reload in the middle of a resize")
	}
}

// A resize that a master never answers does not keep reloads from beginning, which then say what is wrong.
func TestResizeThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	sv, _ := serving(t)
	sv.resizeBy(1)
	sv.front.answer(time.Now())
	if len(sv.held.resizes) != 1 || sv.front.at.IsZero() {
		t.Errorf("%d resizes, to be looked at %v", len(sv.held.resizes), sv.front.at)
	}
	if sv.front.answer(time.Now().Add(sv.masterLimit())); len(sv.held.resizes)+len(sv.front.questions) != 0 {
		t.Errorf("%d resizes, %d questions", len(sv.held.resizes), len(sv.front.questions))
	}
}

// Who asks for what cannot be done is told so.
func TestResizeThatFails(t *testing.T) {
	t.Parallel()
	s, master := serving(t)
	sv := listening(t, s)
	answered := sv.asks("POST /resize?workers=60")
	var r message.Resize
	master.hears(&r)
	master.says(message.Put{Name: EntryCount, Data: "{}", Resized: r.Seq, Failed: "too many open files"})
	if r := sv.hears(answered, time.Now()); r.code != 409 || r.body != "resize: too many open files" {
		t.Errorf("%+v", r)
	}
}

// However many TTINs come while nobody obeys them, there is an end to what is kept of them.
func TestResizesAreBounded(t *testing.T) {
	t.Parallel()
	sv, _ := serving(t)
	sv.attempt = &attempt{}
	for range maxResizes + 100 {
		sv.resizeBy(1)
	}
	if len(sv.held.resizes) != maxResizes || len(sv.front.questions) != maxResizes {
		t.Errorf("%d resizes, %d questions", len(sv.held.resizes), len(sv.front.questions))
	}
}

// A successor may have opened the log before somebody renamed it: it is told as well, when it has all workers.
func TestReopenInTheMiddleOfAReload(t *testing.T) {
	t.Parallel()
	sv, master, successor := reloading(t)
	sv.reopenLogs()
	master.hears(&message.Reopen{})
	successor.says(message.Commit{Seen: 1})
	successor.hears(&message.Committed{})
	master.hears(&message.Superseded{})
	master.dies()
	successor.hears(&message.TakeoverComplete{})
	successor.hears(&message.End{})
	successor.hears(&message.Reopen{})
	sv.reopenLogs()
	successor.hears(&message.Reopen{})
	successor.hearsNoMore()
}

func TestReopenInAReloadThatFails(t *testing.T) {
	t.Parallel()
	sv, master, _ := reloading(t)
	sv.reopenLogs()
	master.hears(&message.Reopen{})
	sv.failAttempt()
	if master.hearsNoMore(); sv.held.reopen {
		t.Error("the next master is told, too")
	}
	sv, master, _ = reloading(t)
	sv.reopenLogs()
	if master.dies(); !sv.held.reopen {
		t.Error("the master has died in the reload, and the next one is not told")
	}
}

// A log that is rotated while there is no master is opened by the next one.
func TestReopenWithoutAMaster(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	master.dies()
	sv.reopenLogs()
	again := sv.newActor(t, phaseRestart, 1<<29)
	sv.starting = again.s
	again.says(message.Commit{})
	again.hears(&message.Committed{})
	again.hears(&message.TakeoverComplete{})
	again.hears(&message.End{})
	again.hears(&message.Reopen{})
}

// A master that was dead already when it was told, or died before it had done it, leaves it to the next one.
func TestReopenThatTheMasterDidNotLiveToSee(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{false, true} {
		sv, master := serving(t)
		sv.reopenLogs()
		if done {
			master.says(message.Reopened{})
		}
		master.dies()
		again := sv.newActor(t, phaseRestart, 1<<29)
		sv.starting = again.s
		again.says(message.Commit{})
		again.hears(&message.Committed{})
		again.hears(&message.TakeoverComplete{})
		again.hears(&message.End{})
		if !done {
			again.hears(&message.Reopen{})
		}
		again.hearsNoMore()
	}
}
