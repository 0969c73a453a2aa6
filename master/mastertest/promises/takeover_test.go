package promises_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// reloadHeld starts a baton whose successor waits at a step.
func reloadHeld(t *testing.T, s site, step string) (*mastertest.Baton, *mastertest.Held) {
	t.Helper()
	steps := mastertest.NewFailpoints(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Env: []string{steps.Env()},
		Binary: mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
	})
	await := steps.HoldAt(step)
	b.Signal(unix.SIGHUP)
	return b, await()
}

// TestResizeInAReload: a resize that comes in the middle of a reload holds afterwards, also if that fails, and who has
// asked for it hears so. No socket listens that nobody accepts on.
func TestResizeInAReload(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, ask string
		socket    string
		fails     bool
		want      int
	}{
		{"TTIN", "TTIN", "", false, 3},
		{"TTOU, fails", "TTOU", "", true, 1},
		{"baton resize", "resize", "", false, 5},
		{"baton resize, reuse_port", "resize", "reuse_port = true", false, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			s.socket = tc.socket
			b, held := reloadHeld(t, s, "spawned")
			answer := func() mastertest.Result { return mastertest.Result{Stdout: "5 workers\n"} }
			switch tc.ask {
			case "TTIN":
				b.Signal(unix.SIGTTIN)
			case "TTOU":
				b.Signal(unix.SIGTTOU)
			case "resize":
				answer = b.StartCLI("resize", "5")
			}
			sleep(100 * time.Millisecond) // enough for the old master to obey, and to be forgotten with it
			if tc.fails {
				b.Kill(held.PID)
			} else {
				held.Release()
			}
			if r := answer(); r.Code != 0 || r.Stdout != "5 workers\n" {
				t.Errorf("%+v", r)
			}
			b.AwaitStatus(fmt.Sprint(tc.want, " workers"), func(st mastertest.Status) bool {
				return st.WorkersWanted == tc.want && len(st.PIDs("serving")) == tc.want && st.Settled() &&
					st.LastReload.ID == 1
			})
			b.Reload()
			if st := b.AwaitSettled(); st.WorkersWanted != tc.want || st.WorkersConfig != 2 {
				t.Errorf("after another reload: %+v", st)
			}
			if n := listening(t, s.listen[0]); tc.socket != "" && n != tc.want {
				t.Errorf("%d sockets listen for %d workers", n, tc.want)
			}
		})
	}
}

// listening counts the sockets that listen on an IPv4 address.
func listening(tb testing.TB, address string) (n int) {
	tb.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		tb.Fatal(err)
	}
	const listen = "0A"
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) > 3 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", a.Port)) && f[3] == listen {
			n++
		}
	}
	return n
}

// TestReopenInAReload: a log that is rotated in the middle of a reload is left alone by everybody afterwards.
func TestReopenInAReload(t *testing.T) {
	t.Parallel()
	b, held := reloadHeld(t, unwatchedSite(t).with(`log_file = "log.txt"`), "spawned")
	if err := os.Rename(b.Path("log.txt"), b.Path("log.txt.1")); err != nil {
		t.Fatal(err)
	}
	b.Signal(unix.SIGUSR1)
	mastertest.Await(t, mastertest.Text("a new log"), func() bool { return mastertest.Exists(b.Path("log.txt")) })
	held.Release()
	b.AwaitGeneration(2)
	b.AwaitSettled()
	var left string
	mastertest.Await(t, func() string { return "everybody to write to the new log, not " + left }, func() bool {
		for _, p := range b.Tree() {
			fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.PID))
			for _, fd := range fds {
				if to, err := os.Readlink(fd); err == nil && to == b.Path("log.txt.1") {
					left = fmt.Sprint(p, " ", fd)
					return false
				}
			}
		}
		return true
	})
}

// TestStopTwice: a second `baton stop` joins the first one, and one that a signal has begun.
func TestStopTwice(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"baton stop", "TERM"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t).with(`stop_timeout = "60s"`)
			b := start(t, s)
			request := hold(t, s.listen[0])
			ended := func() mastertest.Result { return mastertest.Result{} }
			if first == "TERM" {
				b.Signal(unix.SIGTERM)
			} else {
				ended = b.StartCLI("stop")
			}
			b.AwaitStatus("the stop", func(st mastertest.Status) bool { return st.State == "stopping" })
			again := b.StartCLI("stop")
			sleep(700 * time.Millisecond) // more than two signals may be apart that are one
			request.wantFinished()
			for _, r := range []mastertest.Result{ended(), again()} {
				if r.Code != 0 {
					t.Errorf("%+v", r)
				}
			}
			wantExit(t, b, 0, shortTimeout)
		})
	}
}

// TestSignalTwiceAtOnce: timeout, shells and init send a signal to the process and to its group. That is one signal.
func TestSignalTwiceAtOnce(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(`stop_timeout = "60s"`)
	b := start(t, s)
	request := hold(t, s.listen[0])
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGTERM} {
		b.Signal(sig)
		sleep(time.Millisecond)
	}
	b.AwaitLog("the word that it stops", 0, func(text string) bool { return strings.Contains(text, "stopping") })
	sleep(50 * time.Millisecond)
	request.wantFinished()
	wantExit(t, b, 0, shortTimeout)
	if strings.Contains(b.Log(), "killing") {
		t.Error(b.Log())
	}
}

// TestCommandsHaveAnEnd: where nobody answers they say within seconds who that is.
func TestCommandsHaveAnEnd(t *testing.T) {
	t.Parallel()
	commands := [][]string{{"status"}, {"reload"}, {"resize", "3"}, {"stop"}}
	t.Run("the supervisor is stopped", func(t *testing.T) {
		t.Parallel()
		b := start(t, unwatchedSite(t))
		b.Status()
		mastertest.Freeze(b.PID())
		var waits []func() mastertest.Result
		for _, args := range commands {
			waits = append(waits, b.StartCLI(args...))
		}
		want := fmt.Sprintf("the supervisor (pid %d) does not answer: it is stopped", b.PID())
		for i, wait := range waits {
			if r := wait(); r.Code != 111 || !strings.Contains(r.Stderr, want) {
				t.Errorf("%v: %+v, want %s", commands[i], r, want)
			}
		}
		signal(t, b.PID(), unix.SIGCONT)
		b.Stop() // nothing of all that was done, or it is over
	})
	t.Run("the master is stopped", func(t *testing.T) {
		t.Parallel()
		b := start(t, unwatchedSite(t).with(`stop_timeout = "2s"`))
		master := b.Status().MasterPID
		mastertest.Freeze(master)
		want := fmt.Sprintf("the master (pid %d) does not answer: it is stopped", master)
		reload := b.StartCLI("reload")
		if r := b.CLI("status"); r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("status: %+v, want %s", r, want)
		}
		if r := reload(); r.Code != 1 || !strings.Contains(r.Stderr, want) {
			t.Errorf("reload: %+v, want %s", r, want)
		}
		if r := b.CLI("stop"); r.Code != 0 {
			t.Errorf("stop: %+v", r)
		}
		wantExit(t, b, 0, shortTimeout)
	})
	t.Run("somebody else has the socket", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "held.sock")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		b := mastertest.Start(t,
			mastertest.Options{Config: unwatchedSite(t).with(fmt.Sprintf("control = %q", path)).String(), NoWait: true})
		wantExit(t, b, 111, mastertest.Timeout)
		<-b.Silent()
		if want := fmt.Sprintf("(pid %d) does not answer; it is not baton", os.Getpid()); !strings.Contains(b.Log(),
			want) {
			t.Errorf("%s, want %s", b.Log(), want)
		}
	})
}
