package control

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

func TestPeer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if cred, err := rawfd.Peer(c); err != nil || int(cred.Pid) != os.Getpid() || int(cred.Uid) != os.Geteuid() {
		t.Errorf("%+v, %v", cred, err)
	}
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	if cred, err := rawfd.Peer(a); err == nil {
		t.Errorf("a pipe's peer: %+v", cred)
	}
}

func TestLookSeesAStoppedProcess(t *testing.T) {
	t.Parallel()
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = c.Process.Kill(), c.Wait() }()
	if p := Look(c.Process.Pid); p.Stopped {
		t.Errorf("%+v", p)
	}
	_ = c.Process.Signal(unix.SIGSTOP)
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.Process.Pid, &ws, unix.WUNTRACED, nil); err != nil || !ws.Stopped() {
		t.Fatal(err, ws)
	}
	if p := Look(c.Process.Pid); !p.Stopped || p.Name != "sleep" {
		t.Errorf("%+v", p)
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ stat, want string }{
		{"7 (" + name("baton supervisor") + ") S 1", "the supervisor (pid 7) does not answer"},
		{
			"7 (" + name("baton supervisor") + ") T 1",
			"the supervisor (pid 7) does not answer: it is stopped (kill -CONT 7 lets it go on)",
		},
		{"7 (baton master 1) S 1", "the starting baton (pid 7) does not answer"},
		{"7 (a ) T (x)) S 1", `the process "a ) T (x)" (pid 7) does not answer; it is not baton`},
		{"7 (nginx) t 1", `the process "nginx" (pid 7) does not answer: it is stopped`},
		{"", "cannot be seen from here"},
		{"7 (x)", "cannot be seen from here"},
	} {
		if got := parseStat(7, tt.stat).Silence(); !strings.Contains(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.stat, got, tt.want)
		}
	}
}
