package promises_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestSystemdConversation: what systemd hears in the life of a baton, in order, and from whom.
func TestSystemdConversation(t *testing.T) {
	for name, abstract := range map[string]bool{"path": false, "abstract": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sd := mastertest.NewSystemd(t, abstract)
			s := unwatchedSite(t)
			b := mastertest.Start(t, mastertest.Options{Config: s.String(), Env: []string{sd.Env()}, NoWait: true})

			m, before := sd.Await("READY=1")
			if _, err := b.Get(s.listen[0], "/text"); err != nil || len(before) > 0 {
				t.Errorf("READY=1, and an answer is %v; before it %v", err, before)
			}
			wantStatus(t, m, "generation 1", "workers: 2")
			wantScrubbed(t, b)

			if heard := sd.Reload(b); mastertest.States(heard) != "RELOADING READY" {
				t.Errorf("a reload is %v", heard)
			} else {
				wantStatus(t, heard[0], "reloading", "generation 1")
				wantStatus(t, heard[1], "generation 2", "workers: 2", "last reload: ok")
			}
			wantScrubbed(t, b)

			b.WriteConfig("wrokers = 2\n")
			if heard := sd.Reload(b); mastertest.States(heard) != "RELOADING READY" {
				t.Errorf("a failed reload is %v", heard)
			} else {
				wantStatus(t, heard[1], "generation 2", "last reload failed", "wrokers")
			}
			wantScrubbed(t, b)

			b.CLI("resize", "3")
			for m = sd.Next(); !strings.Contains(m.Text, "workers: 3"); m = sd.Next() {
				wantFromSupervisor(t, b, m)
			}
			b.AwaitSettled()
			// As with KillMode=control-group: TERM to everybody, and only one of them says that it ends.
			for _, p := range b.Tree() {
				_ = unix.Kill(p.PID, unix.SIGTERM)
			}
			wantExit(t, b, 0, 2*shortTimeout)
			_, before = sd.Await("STOPPING=1")
			if rest := append(before, sd.Heard()...); len(rest) > 0 {
				t.Errorf("around the stop: %v", rest)
			}
		})
	}
}

func wantFromSupervisor(tb testing.TB, b *mastertest.Baton, m mastertest.Notification) {
	tb.Helper()
	if m.PID != b.PID() {
		tb.Errorf("process %d has said %q, the supervisor is %d", m.PID, m.Text, b.PID())
	}
}

func wantStatus(tb testing.TB, m mastertest.Notification, words ...string) {
	tb.Helper()
	for _, w := range words {
		if !strings.Contains(m.Value("STATUS"), w) {
			tb.Errorf("%q is not in the status of %q", w, m.Text)
		}
	}
}

// wantScrubbed: what is between systemd and the supervisor is no other process's.
func wantScrubbed(tb testing.TB, b *mastertest.Baton) {
	tb.Helper()
	st := b.AwaitSettled()
	for _, pid := range append(st.PIDs(""), st.MasterPID) {
		env, err := mastertest.Environ(pid)
		if err != nil {
			tb.Errorf("process %d: %v", pid, err)
		}
		for name := range env {
			for _, private := range []string{"NOTIFY_", "WATCHDOG_", "LISTEN_", "FDSTORE", "MAINPID"} {
				if strings.HasPrefix(name, private) {
					tb.Errorf("process %d has %s in its environment", pid, name)
				}
			}
		}
	}
}

// TestSystemdReloadWhileReloading: a HUP that comes while a reload is on its way is answered by a RELOADING=1 that is
// younger: `systemctl reload` neither returns too early nor waits for ever.
func TestSystemdReloadWhileReloading(t *testing.T) {
	binary := mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}})
	for step, want := range map[string]string{
		"started": "RELOADING RELOADING READY",       // the successor has not said hello: it reads the config later
		"loaded":  "RELOADING READY RELOADING READY", // too late for the successor
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			sd := mastertest.NewSystemd(t, true)
			steps := mastertest.NewFailpoints(t)
			b := mastertest.Start(t, mastertest.Options{
				Config: unwatchedSite(t).String(), Binary: binary, Env: []string{sd.Env(), steps.Env()},
			})
			sd.Await("READY=1")
			await := steps.HoldAt(step)
			b.Signal(unix.SIGHUP)
			held := await()
			from := len(b.Log())
			wait := sd.StartReload(b)
			b.AwaitLog("the second request", from,
				func(text string) bool { return strings.Contains(text, "reload requested") })
			held.Release()
			heard := wait()
			if got := mastertest.States(heard); got != want {
				t.Errorf("%s, want %s: %v", got, want, heard)
			}
			wantBalanced(t, sd, b)
		})
	}
}

// wantBalanced: after one reload more, which answers all requests before it, systemd believes that nothing is going on.
func wantBalanced(tb testing.TB, sd *mastertest.Systemd, b *mastertest.Baton) {
	tb.Helper()
	b.Reload()
	b.AwaitSettled()
	var heard []mastertest.Notification
	mastertest.Await(tb, func() string { return fmt.Sprint("the last RELOADING=1 to be answered: ", heard) },
		func() bool {
			heard = append(heard, sd.Heard()...)
			return strings.HasSuffix(mastertest.States(heard), "READY")
		})
}

// TestSystemdStorm: systemd reloads while others do so without a pause.
func TestSystemdStorm(t *testing.T) {
	t.Parallel()
	sd := mastertest.NewSystemd(t, false)
	b := mastertest.Start(t, mastertest.Options{Config: unwatchedSite(t).String(), Env: []string{sd.Env()}})
	sd.Await("READY=1")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			b.Signal(unix.SIGHUP)
			select {
			case <-time.After(7 * time.Millisecond):
			case <-stop:
				return
			}
		}
	}()
	for range 3 {
		sd.Reload(b)
	}
	close(stop)
	<-stopped
	wantBalanced(t, sd, b)
}

// TestSystemdWatchdog: the supervisor beats while somebody serves, and a supervisor that does not run does not.
func TestSystemdWatchdog(t *testing.T) {
	t.Parallel()
	sd := mastertest.NewSystemd(t, true)
	opts := mastertest.Pass(t, mastertest.Options{
		Config: unwatchedSite(t).String(),
		Env:    []string{sd.Env(), "WATCHDOG_USEC=100000"},
	})
	b := mastertest.Start(t, opts)
	beats := func(n int) {
		t.Helper()
		for range n {
			m, _ := sd.Await("WATCHDOG=1")
			wantFromSupervisor(t, b, m)
		}
	}
	beats(3)
	b.Kill(b.Status().MasterPID)
	beats(3)
	sd.Reload(b)
	beats(1)

	signal(t, b.PID(), unix.SIGSTOP)
	mastertest.Await(t, mastertest.Text("the supervisor to stop"), func() bool {
		p, err := mastertest.ReadProc(b.PIDOrStarted())
		return err == nil && p.State == "T"
	})
	sd.Heard()
	sleep(300 * time.Millisecond)
	if heard := sd.Heard(); len(heard) > 0 {
		t.Errorf("a stopped supervisor says %v", heard)
	}
	signal(t, b.PIDOrStarted(), unix.SIGCONT)
	beats(2)
}

// TestSystemdWatchdogOfAnother: WATCHDOG_PID is somebody else.
func TestSystemdWatchdogOfAnother(t *testing.T) {
	t.Parallel()
	sd := mastertest.NewSystemd(t, true)
	b := mastertest.Start(t, mastertest.Options{
		Config: unwatchedSite(t).String(), Env: []string{sd.Env(), "WATCHDOG_USEC=20000", "WATCHDOG_PID=1"},
	})
	sd.Reload(b)
	for _, m := range sd.Heard() {
		if m.Has("WATCHDOG=1") {
			t.Error("the supervisor beats for another process")
		}
	}
}

// TestSystemdThatDoesNotRead: a service manager that is stopped holds nobody up.
func TestSystemdThatDoesNotRead(t *testing.T) {
	t.Parallel()
	// A socket that nobody reads: it takes net.unix.max_dgram_qlen messages.
	deaf, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(deaf) })
	name := fmt.Sprintf("@baton-deaf-%d", deaf) + t.Name() + fmt.Sprint(time.Now().UnixNano())
	if err := unix.Bind(deaf, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	b := mastertest.Start(t, mastertest.Options{
		Config: unwatchedSite(t).String(), Env: []string{"NOTIFY_SOCKET=" + name, "WATCHDOG_USEC=2000"},
	})
	for range 3 {
		b.Reload()
	}
	b.Stop()
}

// TestSystemdFollows: the supervisor that has executed another binary goes on with the conversation, and no `systemctl
// reload` waits for a HUP that was lost meanwhile.
func TestSystemdFollows(t *testing.T) {
	t.Parallel()
	sd := mastertest.NewSystemd(t, true)
	s := unwatchedSite(t)
	unit, _ := unitSocket(t, "tcp", "", "unused")
	b := mastertest.Start(t, sd.Service(mastertest.Options{Config: s.String(), Env: []string{"WATCHDOG_USEC=1000000"}},
		unit))
	pid := b.PID()
	for i := range 2 {
		version := b.Upgrade(i)
		sd.Reload(b)
		// systemd reloads again and again while the supervisor becomes another one.
		mastertest.Await(t, mastertest.Text("the supervisor to follow"), func() bool {
			sleep(100 * time.Millisecond * time.Duration(i))
			sd.Reload(b)
			return b.Status().Supervisor == version
		})
	}
	m, _ := sd.Await("WATCHDOG=1")
	wantFromSupervisor(t, b, m)
	env, err := mastertest.Environ(pid)
	if err != nil || env["NOTIFY_SOCKET"] == "" || env["WATCHDOG_USEC"] == "" {
		t.Errorf("the supervisor's environment: %v, %v", env, err)
	}
	for name := range env {
		if strings.HasPrefix(name, "LISTEN_") {
			t.Errorf("the supervisor has %s in its environment still", name)
		}
	}
	wantScrubbed(t, b)
	wantBalanced(t, sd, b)

	list := []string{"baton/list", "baton/tcp/" + strings.ReplaceAll(s.listen[0], ":", "-")}
	wantStored(t, sd, list...)
	s.listen = append(s.listen, mastertest.FreePort(t))
	b.WriteConfig(s.String())
	b.Reload()
	wantStored(t, sd, list[0], "baton/tcp/", "baton/tcp/")
	if w := b.Status().Warnings; len(w) != 1 || !strings.Contains(w[0], `"unused"`) {
		t.Errorf("%q", w)
	}
	b.Stop()
	if states := mastertest.States(sd.Heard()); !strings.HasSuffix(states, "READY STOPPING") {
		t.Errorf("at the end: %q", states)
	}
}

// TestSystemdReloadWhileFollowing: the HUP that is lost while the supervisor executes another binary is answered all
// the same.
func TestSystemdReloadWhileFollowing(t *testing.T) {
	t.Parallel()
	sd := mastertest.NewSystemd(t, true)
	steps := mastertest.NewFailpoints(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: unwatchedSite(t).String(), Env: []string{sd.Env(), steps.Env()},
		Binary: mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
	})
	await := steps.HoldAt("reexecuting")
	version := b.Upgrade(0)
	sd.Reload(b)
	held := await()
	if held.PID != b.PIDOrStarted() {
		t.Errorf("process %d is about to follow, the supervisor is %d", held.PID, b.PIDOrStarted())
	}
	wait := sd.StartReload(b)
	held.Release()
	if states := mastertest.States(wait()); states != "RELOADING READY" {
		t.Error(states)
	}
	follows(b, version)
	if st := b.AwaitSettled(); st.Generation != 2 {
		t.Errorf("generation %d; a lost HUP that would change nothing is no reload", st.Generation)
	}
	wantBalanced(t, sd, b)
}
