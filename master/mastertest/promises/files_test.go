package promises_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// withFiles is a site that makes every kind of file.
func withFiles(s site) site {
	s = s.with(`pid_file = "b.pid"`, `log_file = "b.log"`)
	s.listen = append(s.listen, "unix:web.sock")
	return s
}

// ownFiles are those of them that go in the end.
var ownFiles = []string{"baton.sock", "web.sock", "b.pid"}

func wantFiles(t *testing.T, b *mastertest.Baton) {
	t.Helper()
	for _, name := range ownFiles {
		mastertest.Await(t, mastertest.Text(name), func() bool { return mastertest.Exists(b.Path(name)) })
	}
	if got, want := b.ReadFile("b.pid"), fmt.Sprintf("%d\n", b.PID()); got != want {
		t.Errorf("the PID file says %q, want %q", got, want)
	}
	askUnix(t, b)
}

func wantNoFiles(t *testing.T, b *mastertest.Baton) {
	t.Helper()
	for _, name := range ownFiles {
		if mastertest.Exists(b.Path(name)) {
			t.Errorf("left behind: %s", name)
		}
	}
}

// dialUnix connects to web.sock, whatever bytes are in its path.
func dialUnix(t *testing.T, b *mastertest.Baton) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", b.Path("web.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, "GET /text HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

func askUnix(t *testing.T, b *mastertest.Baton) {
	t.Helper()
	wantAnswer(t, dialUnix(t, b))
}

func wantAnswer(t *testing.T, c net.Conn) {
	t.Helper()
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") || !strings.HasSuffix(string(answer), "one") {
		t.Errorf("%q, %v", answer, err)
	}
}

// TestFilesComeBack: what somebody has removed is made anew by the next reload, and what waited in the queue of a
// socket without a path is served.
func TestFilesComeBack(t *testing.T) {
	t.Parallel()
	b := start(t, withFiles(unwatchedSite(t)))
	wantFiles(t, b)
	st := b.Status()
	for _, pid := range st.PIDs("") { // so that nobody accepts what comes now
		signal(t, pid, unix.SIGSTOP)
	}
	waiting := make([]net.Conn, 200)
	for i := range waiting {
		waiting[i] = dialUnix(t, b)
	}
	for _, name := range ownFiles {
		remove(t, b.Path(name))
	}
	b.Signal(unix.SIGHUP)
	b.AwaitGeneration(2)
	wantFiles(t, b)
	for _, pid := range st.PIDs("") {
		signal(t, pid, unix.SIGCONT)
	}
	for _, c := range waiting {
		wantAnswer(t, c)
	}
	b.AwaitSettled()
	b.Reload()
	wantFiles(t, b)
	b.Stop()
	wantNoFiles(t, b)
}

// TestForeignFilesStay: what somebody else has put at a path is neither overwritten nor removed, and the reload fails
// with the reason.
func TestForeignFilesStay(t *testing.T) {
	t.Parallel()
	b := start(t, withFiles(unwatchedSite(t)))
	for _, name := range ownFiles[1:] {
		remove(t, b.Path(name))
		b.WriteFile(name, "precious")
		r := b.CLI("reload")
		if r.Code != 1 || !strings.Contains(r.Stderr, b.Path(name)) ||
			!strings.Contains(r.Stderr, "there is a file already") {
			t.Errorf("%s: exit code %d, %s", name, r.Code, r.Stderr)
		}
		if st := b.AwaitSettled(); st.LastReload.OK ||
			!strings.Contains(strings.Join(st.Warnings, "\n"), b.Path(name)) {
			t.Errorf("%s: %+v", name, st)
		}
		if got := b.ReadFile(name); got != "precious" {
			t.Errorf("%s: %q", name, got)
		}
		remove(t, b.Path(name))
		b.Reload()
		wantFiles(t, b)
	}
	remove(t, b.Path("b.pid"))
	b.WriteFile("b.pid", "precious")
	b.Stop()
	if got := b.ReadFile("b.pid"); got != "precious" {
		t.Errorf("%q", got)
	}
}

// TestPathsAreBytes: no path is asked to be UTF-8.
func TestPathsAreBytes(t *testing.T) {
	t.Parallel()
	s := withFiles(watchedSite(t))
	b := mastertest.Start(t, mastertest.Options{Name: "\xff", Config: s.String()})
	wantFiles(t, b)
	b.Reload()
	old := b.AwaitSettled()
	b.Kill(old.MasterPID)
	b.AwaitStatus("another master",
		func(st mastertest.Status) bool { return st.MasterPID != old.MasterPID && st.Settled() })
	wantFiles(t, b)
	s.text = "two"
	b.WriteConfig(s.String())
	wantText(t, b, s.listen[0], "two")
	s.text = "one"
	b.WriteConfig(s.String())
	wantText(t, b, s.listen[0], "one")
	for _, name := range ownFiles {
		remove(t, b.Path(name))
	}
	b.Signal(unix.SIGHUP)
	b.AwaitStatus("the next generation",
		func(st mastertest.Status) bool { return st.Generation > old.Generation+2 && st.Settled() })
	wantFiles(t, b)
	b.Stop()
	wantNoFiles(t, b)
}

// TestFailedAttemptLeavesNoFile is P2 for files: what an attempt has made goes with it, and nothing that was there is
// touched.
func TestFailedAttemptLeavesNoFile(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := unwatchedSite(t)
	b := start(t, s)
	more := withFiles(s)
	more.top += "control = \"other.sock\"\n"
	late := more.with(`ready_timeout = "1ms"`)
	late.top = strings.ReplaceAll(late.top, "b.pid", "old.pid")
	b.WriteFile("old.pid", "1073741824\n") // of nobody
	before := dir(t, b)
	for name, spoilt := range map[string]string{
		"port taken":       more.String() + fmt.Sprintf("[[listen]]\naddress = %q\n", taken.Addr()),
		"not ready":        late.String(),
		"foreign pid file": strings.ReplaceAll(more.String(), "b.pid", "site.toml.keep"),
	} {
		b.WriteFile("site.toml.keep", "precious")
		b.WriteConfig(spoilt)
		if r := b.CLI("reload"); r.Code != 1 {
			t.Errorf("%s: exit code %d: %s", name, r.Code, r.Stderr)
		}
		b.AwaitSettled()
		remove(t, b.Path("site.toml.keep"))
		if after := dir(t, b); strings.Join(after, " ") != strings.Join(before, " ") {
			t.Errorf("%s: %q, then %q", name, before, after)
		}
		if got := b.ReadFile("old.pid"); got != "1073741824\n" {
			t.Errorf("%s: old.pid: %q", name, got)
		}
	}
	b.WriteConfig(late.with(`# `).String())
	b.Stop()
	if r := b.CLI("run", "--config", "site.toml"); r.Code == 0 || mastertest.Exists(b.Path("b.log")) ||
		b.ReadFile("old.pid") != "1073741824\n" {
		t.Errorf("a start that fails: exit code %d, %q, %s", r.Code, dir(t, b), r.Stderr)
	}
}

// dir lists the directory.
func dir(t *testing.T, b *mastertest.Baton) []string {
	t.Helper()
	entries, err := os.ReadDir(b.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestTwoWithOnePIDFile: the second one does not start, and the first one's file stays.
func TestTwoWithOnePIDFile(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "b.pid")
	s := unwatchedSite(t).with(fmt.Sprintf("pid_file = %q", pidFile))
	b := start(t, s)
	other := unwatchedSite(t).with(fmt.Sprintf("pid_file = %q", pidFile), `control = "other.sock"`)
	b.WriteFile("other.toml", other.String())
	r := b.CLI("run", "--config", "other.toml")
	if want := fmt.Sprintf("pid_file %s: process %d is running", pidFile, b.PID()); r.Code == 0 ||
		!strings.Contains(r.Stderr, want) {
		t.Errorf("exit code %d, %s", r.Code, r.Stderr)
	}
	if text, err := os.ReadFile(pidFile); err != nil || string(text) != fmt.Sprintf("%d\n", b.PID()) {
		t.Errorf("%q, %v", text, err)
	}
	b.Stop()
	if _, err := os.Lstat(pidFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestSupervisorKilledWhileStopping: who is left removes the files.
func TestSupervisorKilledWhileStopping(t *testing.T) {
	t.Parallel()
	s := withFiles(unwatchedSite(t))
	b := start(t, s)
	answers := askSlowly(t, b, s.listen[0], "/slow1", 1)
	b.Signal(unix.SIGTERM)
	mastertest.Await(t, mastertest.Text("the end of the listening socket"),
		func() bool { return !mastertest.Exists(b.Path("web.sock")) })
	b.Kill(b.PID())
	b.Wait()
	if err := <-answers; err != nil {
		t.Error(err)
	}
	b.WantGone()
	wantNoFiles(t, b)
}

// TestFullDisk: that lines of the log are lost is no secret.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	b := start(t, unwatchedSite(t).with(`log_file = "/dev/full"`))
	b.AwaitStatus("the word that lines are lost", func(st mastertest.Status) bool {
		return strings.Contains(strings.Join(st.Warnings, "\n"),
			"lines of the running processes are lost: no space left on device")
	})
}
