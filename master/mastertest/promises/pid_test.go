package promises_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestPIDStays is P3: the process that was started is the one that is there after all reloads and upgrades, and
// the shell that started it sees its end.
func TestPIDStays(t *testing.T) {
	for name, tc := range map[string]struct {
		opts mastertest.Options
		stop func(b *mastertest.Baton)
	}{
		"in the background of a shell": {
			mastertest.Options{Shell: `"$BATON" "$@" & echo "started $!"; wait $!; echo "exit code $?"`},
			func(b *mastertest.Baton) { b.Signal(unix.SIGTERM) },
		},
		"in the background of a shell, INT": {
			// Such a shell starts it with INT ignored.
			mastertest.Options{Shell: `"$BATON" "$@" & echo "started $!"; wait $!; echo "exit code $?"`},
			func(b *mastertest.Baton) { b.Signal(unix.SIGINT) },
		},
		"in a terminal": {
			mastertest.Options{Terminal: true, Shell: `trap : INT; "$BATON" "$@"; echo "exit code $?"`},
			func(b *mastertest.Baton) { b.Type(mastertest.CtrlC) },
		},
		"in a terminal, alone": {
			mastertest.Options{Terminal: true},
			func(b *mastertest.Baton) { b.Type(mastertest.CtrlC) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			tc.opts.Config = s.String()
			b := mastertest.Start(t, tc.opts)
			pid := b.Status().SupervisorPID
			generation := 1
			reload := func() {
				t.Helper()
				b.Signal(unix.SIGHUP)
				generation++
				if st := b.AwaitGeneration(generation); st.SupervisorPID != pid {
					t.Fatalf("the supervisor is %d, it was %d", st.SupervisorPID, pid)
				}
			}
			for range 10 {
				reload()
			}
			for i := range 3 {
				want := b.Upgrade(i)
				reload()
				if st := b.Status(); st.Version != want {
					t.Errorf("version %s, want %s", st.Version, want)
				}
			}
			reload()
			b.AwaitSettled()
			if strings.Contains(b.Log(), "started ") && !strings.Contains(b.Log(), fmt.Sprintf("started %d", pid)) {
				t.Errorf("the supervisor is %d, but the log says %q", pid, b.Log())
			}
			tc.stop(b)
			wantExit(t, b, 0, shortTimeout)
			if tc.opts.Shell != "" {
				b.AwaitLog("exit code 0", 0, func(text string) bool { return strings.Contains(text, "exit code 0") })
			}
		})
	}
}

// TestPIDFileAndTitles: what an administrator finds.
func TestPIDFileAndTitles(t *testing.T) {
	t.Parallel()
	b := start(t, unwatchedSite(t).with(`pid_file = "baton.pid"`))
	b.Reload()
	st := b.AwaitSettled()
	if text := b.ReadFile("baton.pid"); strings.TrimSpace(text) != fmt.Sprint(st.SupervisorPID) {
		t.Errorf("the PID file says %q, the supervisor is %d", text, st.SupervisorPID)
	}
	for pid, want := range map[int]string{
		st.SupervisorPID: "supervisor", st.MasterPID: "master",
		st.PIDs("")[0]: "worker",
	} {
		p, err := mastertest.ReadProc(pid)
		if err != nil {
			t.Fatal(err)
		}
		short := "baton " + want[:1] // the kernel cuts names
		if !strings.HasPrefix(p.Comm, short) || !strings.Contains(mastertest.CommandLine(pid), want) {
			t.Errorf("the %s is called %q, its command line is %q", want, p.Comm, mastertest.CommandLine(pid))
		}
	}
	b.Stop()
	if mastertest.Exists(b.Path("baton.pid")) {
		t.Error("left behind: the PID file")
	}
}

// TestTeeThatDies: Ctrl-C ends the reader of the log as well, and nobody may die of that.
func TestTeeThatDies(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Terminal: true,
		Shell: `"$BATON" "$@" 2>&1 | tee log`,
	})
	b.Reload()
	answers := askSlowly(t, b, s.listen[0], "/slow2", 4)
	b.Type(mastertest.CtrlC)
	for range 4 {
		if err := <-answers; err != nil {
			t.Errorf("a request in progress: %v", err)
		}
	}
	b.Wait()
	b.AwaitGone()
}

// TestHangUp: when the terminal is closed, HUP does not mean reload.
func TestHangUp(t *testing.T) {
	for name, shell := range map[string]string{"alone": "", "below a shell": `"$BATON" "$@"; true`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t)
			b := mastertest.Start(t, mastertest.Options{Config: s.String(), Terminal: true, Shell: shell})
			b.Reload()
			b.HangUp()
			b.WaitFor(shortTimeout)
			b.AwaitGone()
		})
	}
}

// TestStartFails: it says so and exits at once, with a code that says whose fault it is.
func TestStartFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	host, port, _ := net.SplitHostPort(taken.Addr().String())
	good := unwatchedSite(t).String()
	for name, tc := range map[string]struct {
		config string
		args   []string
		code   int
		want   []string
	}{
		"port taken": {"", []string{"--host", host, "--port", port}, 111, []string{port, "in use"}},
		"port taken, file": {
			strings.Replace(good, `address = "`, `address = "`+taken.Addr().String()+`" #`, 1), nil,
			111,
			[]string{port, "in use"},
		},
		"unknown key":       {good + "[http]\ncolour = 1\n", nil, 100, []string{"site.toml:", "colour"}},
		"no TOML":           {"workers = = 2\n", nil, 100, []string{"site.toml:1:"}},
		"empty file":        {" ", nil, 100, []string{"site.toml", "empty"}},
		"unknown flag":      {"", []string{"--colour"}, 100, []string{"--colour"}},
		"unknown command":   {"", []string{"relaod"}, 100, []string{"reload"}},
		"bad value":         {"", []string{"--workers", "many"}, 100, []string{"--workers", "many"}},
		"no such file":      {"", []string{"run", "--config", "nowhere.toml"}, 100, []string{"nowhere.toml"}},
		"no such directory": {good + "[[route]]\npath = \"/x\"\nstatic = \"nowhere\"\n", nil, 100, []string{"nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := mastertest.Start(t, mastertest.Options{Config: tc.config, Args: tc.args, NoWait: true})
			wantExit(t, b, tc.code, shortTimeout)
			<-b.Silent()
			for _, want := range tc.want {
				if !strings.Contains(b.Log(), want) {
					t.Errorf("%q is not in %q", want, b.Log())
				}
			}
		})
	}
}

// TestCommandLine: the flags that have to work as they stand.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	address := mastertest.FreePort(t)
	host, port, _ := net.SplitHostPort(address)
	b := mastertest.Start(t, mastertest.Options{
		Args: []string{
			"--host", host, "--port", port, "--worker", "4", "--timeout-ms", "2000", "--max-header-size",
			"8192",
		},
	})
	if st := b.Status(); st.WorkersWanted != 4 || st.Listeners[0].Address != address {
		t.Errorf("%+v", st)
	}
	if r := b.CLI("status"); r.Code != 0 || !strings.Contains(r.Stdout, "serving") {
		t.Errorf("%+v", r)
	}
	if r := b.CLI("resize", "2"); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	b.AwaitStatus("two workers", func(st mastertest.Status) bool { return st.WorkersWanted == 2 && st.Settled() })
	b.Signal(unix.SIGTTIN)
	b.AwaitStatus("three workers", func(st mastertest.Status) bool { return st.WorkersWanted == 3 && st.Settled() })
	b.Reload() // it holds over a reload
	b.Signal(unix.SIGTTOU)
	st := b.AwaitStatus("two workers", func(st mastertest.Status) bool { return st.WorkersWanted == 2 && st.Settled() })
	if st.Generation != 2 || st.WorkersConfig != 4 {
		t.Errorf("%+v", st)
	}
	if r := b.CLI("version"); r.Code != 0 || !strings.Contains(r.Stdout, "v1") {
		t.Errorf("%+v", r)
	}
	b.Stop()
}

// TestResizeLosesNothing is P7, with one socket for all and with one for each slot.
func TestResizeLosesNothing(t *testing.T) {
	for name, socket := range map[string]string{"shared": "", "reuse_port": "reuse_port = true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exclusive(t)
			s := unwatchedSite(t)
			b := start(t, s)
			s.socket = socket
			b.WriteConfig(s.String())
			b.Reload()
			clients := putLoad(t, s.listen[0], load.Mix(16, 8, 8))
			for _, n := range []int{1, 8, 2, 5, 1, 6, 3} {
				if r := b.CLI("resize", fmt.Sprint(n)); r.Code != 0 {
					t.Errorf("%+v", r)
				}
				b.AwaitStatus(fmt.Sprint(n, " workers"), func(st mastertest.Status) bool {
					return st.WorkersWanted == n && len(st.PIDs("serving")) == n
				})
				sleep(100 * time.Millisecond)
			}
			wantNoLoss(t, clients)
		})
	}
}
