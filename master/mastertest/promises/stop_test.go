package promises_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// shortTimeout is how long is waited for what has nothing to wait for. It is not a measure of speed: tests in which
// something could be waited for make that last longer, or fail otherwise.
const shortTimeout = 15 * time.Second

// TestStopAtRest is P5 where it is easiest.
func TestStopAtRest(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGQUIT} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			b := start(t, unwatchedSite(t).with(`stop_timeout = "60s"`))
			b.Status() // so that the port is known, and looked at in the end
			b.Signal(sig)
			wantExit(t, b, 0, shortTimeout)
		})
	}
	t.Run("baton stop", func(t *testing.T) {
		t.Parallel()
		b := start(t, unwatchedSite(t).with(`stop_timeout = "60s"`))
		b.Status()
		if r := b.CLI("stop"); r.Code != 0 {
			t.Errorf("%+v", r)
		}
		if tree := b.Tree(); len(tree) > 0 {
			t.Errorf("baton stop has returned, and there is %v", tree)
		}
		wantExit(t, b, 0, shortTimeout)
	})
}

// TestStopFinishesRequests: what is in progress is finished, within the limit that the signal has.
func TestStopFinishesRequests(t *testing.T) {
	for _, tc := range []struct {
		sig   unix.Signal
		limit string
		path  string
		good  bool
		most  time.Duration
	}{
		{unix.SIGTERM, `stop_timeout = "8s"`, "/slow2", true, 2*time.Second + shortTimeout},
		{unix.SIGINT, `stop_timeout = "8s"`, "/slow2", true, 2*time.Second + shortTimeout},
		{unix.SIGTERM, `stop_timeout = "1s"`, "/slow6", false, time.Second + shortTimeout},
		{unix.SIGQUIT, `stop_timeout = "1s"`, "/slow2", true, 2*time.Second + shortTimeout},
		{unix.SIGQUIT, "stop_timeout = \"1s\"\ndrain_timeout = \"2s\"", "/slow6", false, 2*time.Second + shortTimeout},
	} {
		t.Run(fmt.Sprint(unix.SignalName(tc.sig), tc.path, tc.good), func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t).with(tc.limit)
			b := start(t, s)
			answers := askSlowly(t, b, s.listen[0], tc.path, 4)
			b.Signal(tc.sig)
			wantExit(t, b, 0, tc.most)
			for range 4 {
				if err := <-answers; (err == nil) != tc.good {
					t.Errorf("a request in progress: %v; want an answer: %v", err, tc.good)
				}
			}
		})
	}
}

// TestSecondSignalKills: who asks twice does not want to wait.
func TestSecondSignalKills(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(`stop_timeout = "60s"`)
	b := start(t, s)
	answers := askSlowly(t, b, s.listen[0], "/slow6", 1)
	b.Signal(unix.SIGINT)
	b.AwaitLog("the word that it stops", 0, func(text string) bool { return strings.Contains(text, "stopping") })
	sleep(700 * time.Millisecond) // what comes sooner is the same signal
	b.Signal(unix.SIGINT)
	wantExit(t, b, 0, shortTimeout)
	if err := <-answers; err == nil {
		t.Error("a request in progress was answered: nobody was killed")
	}
}

// TestStopWithIdleClients: connections on which nothing happens hold nobody up.
func TestStopWithIdleClients(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(`stop_timeout = "60s"`)
	b := start(t, s)
	for i, c := range connect(t, s.listen[0], 20) {
		if i < 10 { // the others have never said a word
			ask(t, c)
			if err := answered(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.Signal(unix.SIGTERM)
	wantExit(t, b, 0, shortTimeout)
}

// TestStopUnderLoad: after a reload, so that two generations are there; nothing that was begun is cut.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := unwatchedSite(t)
	b := start(t, s)
	answers := askSlowly(t, b, s.listen[0], "/slow1", 4)
	clients := putLoad(t, s.listen[0], defaultLoad())
	b.Reload()
	b.Signal(unix.SIGTERM)
	wantExit(t, b, 0, 2*shortTimeout)
	clients.Stop() // they were refused, of course
	for range 4 {
		if err := <-answers; err != nil {
			t.Errorf("a request in progress: %v", err)
		}
	}
}

// TestStopInReload is P5 in the middle of a takeover, at every step of it: with a successor that goes on, and with one
// that never does.
func TestStopInReload(t *testing.T) {
	binary := mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}})
	for _, step := range slices.Concat(mastertest.FailpointsBeforeCommit(), mastertest.FailpointsAfterCommit()) {
		for _, stuck := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stuck %v", step, stuck), func(t *testing.T) {
				t.Parallel()
				steps := mastertest.NewFailpoints(t)
				s := unwatchedSite(t).with(`stop_timeout = "2s"`)
				b := mastertest.Start(t, mastertest.Options{
					Config: s.String(), Env: []string{steps.Env()},
					Binary: binary,
				})
				answers := askSlowly(t, b, s.listen[0], "/slow1", 1)
				await := steps.HoldAt(step)
				b.Signal(unix.SIGHUP)
				held := await()
				b.Signal(unix.SIGTERM)
				if !stuck {
					b.AwaitLog("the word that it stops", 0,
						func(text string) bool { return strings.Contains(text, "stopping") })
					held.ReleaseOrGone()
				}
				wantExit(t, b, 0, 2*time.Second+shortTimeout)
				if err := <-answers; err != nil {
					t.Errorf("a request in progress: %v", err)
				}
			})
		}
	}
}

// TestStopWithStoppedProcess: nobody can hold up the end by not taking part.
func TestStopWithStoppedProcess(t *testing.T) {
	for _, who := range []string{"worker", "master", "all but the supervisor"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			b := start(t, unwatchedSite(t).with(`stop_timeout = "2s"`))
			st := b.Status()
			pids := map[string][]int{
				"worker": st.PIDs("")[:1], "master": {st.MasterPID},
				"all but the supervisor": append(st.PIDs(""), st.MasterPID),
			}[who]
			for _, pid := range pids {
				signal(t, pid, unix.SIGSTOP)
			}
			b.Signal(unix.SIGTERM)
			wantExit(t, b, 0, 2*time.Second+shortTimeout)
		})
	}
}

// TestSignalToAll: systemd, tini -g and a terminal signal every process; only the supervisor obeys.
func TestSignalToAll(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s)
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGHUP} {
		for _, p := range b.Tree() {
			signal(t, p.PID, sig)
		}
		b.AwaitSettled()
	}
	if st := b.AwaitGeneration(2); st.Crashes != 0 {
		t.Errorf("%d processes died of a signal that was not for them", st.Crashes)
	}
	b.AwaitSettled()
	answers := askSlowly(t, b, s.listen[0], "/slow1", 4)
	for _, p := range b.Tree() {
		_ = unix.Kill(p.PID, unix.SIGTERM) // it may have ended: the supervisor was among the first
	}
	wantExit(t, b, 0, time.Second+shortTimeout)
	for range 4 {
		if err := <-answers; err != nil {
			t.Errorf("a request in progress: %v", err)
		}
	}
}

// askSlowly sends n requests and returns when the workers have them, besides those that they have already.
func askSlowly(tb testing.TB, b *mastertest.Baton, address, path string, n int, already ...int64) <-chan error {
	tb.Helper()
	answers := make(chan error, n)
	send := func() {
		for range n {
			go func() {
				text, err := b.Get(address, path)
				if err == nil && text != "slow" {
					err = fmt.Errorf("answer %q", text)
				}
				answers <- err
			}()
		}
	}
	send()
	b.AwaitStatus(fmt.Sprintf("%d requests in progress", n), func(st mastertest.Status) bool {
		active := int64(0)
		for _, other := range already {
			active -= other
		}
		for _, w := range st.Workers {
			active += w.Active
		}
		if active != int64(n) && len(answers) == n { // too late on a busy machine: they have ended
			for range n {
				<-answers
			}
			send()
		}
		return active == int64(n)
	})
	return answers
}

// wantExit fails the test unless everything ends in time, with this code, and leaves nothing behind.
func wantExit(tb testing.TB, b *mastertest.Baton, code int, most time.Duration) {
	tb.Helper()
	if got := b.WaitFor(most); got != code {
		tb.Errorf("exit code %d, want %d", got, code)
	}
	b.WantGone()
}
