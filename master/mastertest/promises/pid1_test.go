package promises_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// TestPID1: as the first process of a container.
func TestPID1(t *testing.T) {
	t.Parallel()
	mastertest.NeedNamespace(t)
	exclusive(t)
	s := unwatchedSite(t).with(`stop_timeout = "10m"`)
	b := mastertest.Start(t, mastertest.Options{Config: s.String(), Namespace: true})
	if st := b.Status(); st.SupervisorPID != 1 {
		t.Fatalf("the supervisor is PID %d", st.SupervisorPID)
	}
	clients := putLoad(t, s.listen[0], load.Mix(2, 8, 8))
	for i := range 10 {
		b.Signal([]unix.Signal{unix.SIGHUP, unix.SIGUSR2}[i%2])
		b.AwaitGeneration(i + 2)
	}
	wantNoLoss(t, clients)
	st := b.AwaitSettled()
	if st.Generation != 11 || st.SupervisorPID != 1 {
		t.Errorf("%+v", st)
	}

	b.Signal(unix.SIGTTIN)
	b.AwaitStatus("one more worker", func(st mastertest.Status) bool { return st.WorkersWanted == 3 && st.Settled() })
	b.Signal(unix.SIGTTOU)
	st = b.AwaitStatus("one less worker",
		func(st mastertest.Status) bool { return st.WorkersWanted == 2 && st.Settled() })

	b.Kill(b.Outside(st.MasterPID))
	b.Kill(b.Outside(st.Workers[0].PID))
	b.AwaitStatus("another master, and another worker", func(now mastertest.Status) bool {
		return now.MasterPID != st.MasterPID && now.Settled() && !slices.Contains(now.PIDs(""), st.Workers[0].PID)
	})

	orphans(t, b)
	b.Signal(unix.SIGTERM)
	wantExit(t, b, 0, mastertest.Timeout) // and not stop_timeout: it is not the strangers' time
	if got := b.ReadFile("last words"); got != "bye\n" {
		t.Errorf("a stranger was not asked to end: %q", got)
	}
}

// orphans makes processes that lose their parent, as `docker exec` would. Those that end are reaped; two are left: one
// that obeys TERM, and one that does not.
func orphans(t *testing.T, b *mastertest.Baton) {
	t.Helper()
	if err := unix.Mkfifo(b.Path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Join(`exec >/dev/null 2>&1
		for i in 1 2 3 4 5; do (exec cat <fifo &); done
		(trap 'echo bye >"last words"; exit' TERM; : >obeys; while :; do sleep 600 & wait; done) &
		(trap '' TERM; : >"does not"; exec sleep 600) &`).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mastertest.Await(t, mastertest.Text("both"), func() bool {
		return mastertest.Exists(b.Path("obeys")) && mastertest.Exists(b.Path("does not"))
	})
	var cats []int
	mastertest.Await(t, func() string { return fmt.Sprint("five orphans: ", b.Tree()) }, func() bool {
		cats = nil
		for _, p := range b.Tree() {
			if p.PPID == b.PID() && !strings.HasPrefix(p.Comm, "baton") {
				cats = append(cats, p.PID)
			}
		}
		return len(cats) == 7
	})
	f, err := os.OpenFile(b.Path("fifo"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close() // now they end
	mastertest.Await(t, mastertest.Text("no zombie"), func() bool {
		gone := 0
		for _, pid := range cats {
			if _, err := mastertest.ReadProc(pid); err != nil {
				gone++
			}
		}
		return gone == 5
	})
}

// TestPID1Stops: on each signal that says so, and HUP does not where there is no terminal.
func TestPID1Stops(t *testing.T) {
	mastertest.NeedNamespace(t)
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGQUIT} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			b := mastertest.Start(t, mastertest.Options{Config: unwatchedSite(t).String(), Namespace: true})
			b.Signal(unix.SIGUSR1)
			b.Signal(unix.SIGPIPE)
			b.Signal(unix.SIGHUP)
			b.AwaitGeneration(2)
			b.Signal(sig)
			wantExit(t, b, 0, mastertest.Timeout)
		})
	}
}

// TestStrangers: what a shell has left running before it became baton does not hold up a stop, and is asked before it
// is killed.
func TestStrangers(t *testing.T) {
	t.Parallel()
	if err := unix.Access("/bin/sh", unix.X_OK); err != nil {
		t.Skip(err)
	}
	b := mastertest.Start(t, mastertest.Options{Config: unwatchedSite(t).with(`stop_timeout = "10m"`).String(), Shell: `
		(trap 'echo bye >"last words"; exit' TERM; echo obeys; while :; do sleep 600 & wait; done) &
		(trap '' TERM; echo does not; exec sleep 600) &
		exec "$BATON" "$@"`})
	b.AwaitLog("the word of both", 0, func(text string) bool {
		return strings.Contains(text, "obeys") && strings.Contains(text, "does not")
	})
	b.Reload()
	b.AwaitSettled()
	b.Signal(unix.SIGTERM)
	wantExit(t, b, 0, mastertest.Timeout)
	if got := b.ReadFile("last words"); got != "bye\n" {
		t.Errorf("a stranger was not asked to end: %q", got)
	}
}
