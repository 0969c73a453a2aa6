package supervisor

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/systemd"
)

// heardBy gives sv a systemd, and returns what it has heard since.
func heardBy(t *testing.T, sv *supervisor) (heard func() []string) {
	t.Helper()
	address := filepath.Join(t.TempDir(), "notify")
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(socket, &unix.SockaddrUnix{Name: address})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(socket) })
	sv.systemd = systemd.Open(systemd.Options{Socket: address, Log: sv.log})
	return func() (all []string) {
		sv.systemd.Flush(20 * time.Second)
		b := make([]byte, 4<<10)
		for {
			n, err := unix.Read(socket, b)
			if err != nil {
				return all
			}
			all = append(all, string(b[:n]))
		}
	}
}

// states returns the words of what was said that are set to 1.
func states(heard []string) string {
	var all []string
	for _, text := range heard {
		for line := range strings.Lines(text) {
			if word, ok := strings.CutSuffix(line, "=1\n"); ok {
				all = append(all, word)
			}
		}
	}
	return strings.Join(all, " ")
}

// READY=1 is not said at COMMIT, when new sockets do not listen yet.
func TestReadyWaitsForServing(t *testing.T) {
	t.Parallel()
	sv := testSupervisor(t)
	heard := heardBy(t, sv)
	a := sv.newActor(t, phaseFirst, 1<<30)
	sv.starting = a.s
	a.says(message.Commit{})
	if got := heard(); len(got) > 0 {
		t.Errorf("at COMMIT: %q", got)
	}
	a.says(message.Serving{Workers: 3})
	if got := heard(); states(got) != "READY" || !strings.Contains(got[0], "workers: 3") {
		t.Errorf("%q", got)
	}
	a.says(message.Serving{Workers: 4}) // a resize
	if got := heard(); states(got) != "" || !strings.Contains(got[0], "workers: 4") {
		t.Errorf("%q", got)
	}
}

// A successor that dies between COMMIT and its word leaves an answer owed, which the restarted master's word pays.
func TestReadyAfterTheSuccessorsDeath(t *testing.T) {
	t.Parallel()
	sv, _, successor := reloading(t)
	heard := heardBy(t, sv)
	successor.says(message.Commit{Seen: 1})
	successor.dies()
	if got := states(heard()); got != "" {
		t.Errorf("%q is said of a reload of which nobody knows whether it serves", got)
	}
	sv.old = nil
	again := sv.newActor(t, phaseRestart, 1<<30)
	sv.starting = again.s
	again.says(message.Commit{})
	again.says(message.Serving{})
	if got := states(heard()); got != "READY" {
		t.Errorf("%q", got)
	}
}

// A stop is not answered by READY=1.
func TestNothingButStoppingAtAStop(t *testing.T) {
	t.Parallel()
	sv, master, _ := reloading(t)
	heard := heardBy(t, sv)
	sv.stop("test", false)
	sv.failAttempt()
	master.says(message.Serving{})
	if got := states(heard()); got != "STOPPING" {
		t.Errorf("%q", got)
	}
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		given func(sv *supervisor)
		want  bool
	}{
		"at the start":  {func(*supervisor) {}, true},
		"with a master": {func(sv *supervisor) { sv.generation, sv.current = 1, &masterConn{} }, true},
		"workers without a master": {
			func(sv *supervisor) { sv.generation = 1; sv.registry.put(WorkerEntry(7), entry{FD: -1}) }, true,
		},
		"nobody": {func(sv *supervisor) { sv.generation = 1 }, false},
		"nobody, for it is stopping": {
			func(sv *supervisor) { sv.generation, sv.stopping.phase = 1, stopDraining }, true,
		},
	} {
		sv := testSupervisor(t)
		tt.given(sv)
		if got := sv.isHealthy(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
