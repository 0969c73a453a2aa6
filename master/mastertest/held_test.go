package mastertest

import (
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
)

// TestServedByAProcess: those whose connection is accepted, and not those that wait in the queue.
func TestServedByAProcess(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("SKIPPED: %s: %v", address, err)
			continue
		}
		defer l.Close()
		first, second := dialTo(t, l), dialTo(t, l)
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		served, err := Served(os.Getpid())
		server := l.Addr().String()
		if err != nil || !served[Ends{first, server}] || served[Ends{second, server}] {
			t.Errorf("%v, %v; want %s and not %s", slices.Collect(maps.Keys(served)), err, first, second)
		}
	}
}

func dialTo(t *testing.T, l net.Listener) (local string) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

func TestKillHolding(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	noted := false
	if !KillHolding(cmd.Process.Pid, func(map[Ends]bool) { noted = true }) || !noted {
		t.Error("not killed, or not noted")
	}
	_ = cmd.Wait()
	if KillHolding(cmd.Process.Pid, func(map[Ends]bool) {}) {
		t.Error("killed what is gone")
	}
}
