package mastertest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// namespaceFlags are those of unshare(1) for a PID namespace, with a user namespace around it for those who are not
// root.
func namespaceFlags() []string {
	flags := []string{"--pid", "--fork", "--mount-proc"}
	if os.Geteuid() != 0 {
		flags = append(flags, "--user", "--map-root-user")
	}
	return flags
}

var tryNamespace = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("unshare", append(namespaceFlags(), "true")...).CombinedOutput()
})

// NeedNamespace skips the test where a process may not make a PID namespace.
func NeedNamespace(tb testing.TB) {
	tb.Helper()
	if out, err := tryNamespace(); err != nil {
		tb.Skipf("no PID namespace can be made here: %v: %s", err, bytes.TrimSpace(out))
	}
}

// first is the PID, from outside, of PID 1 of the namespace; 0 if it is not there.
func (b *Baton) first() int {
	started := b.cmd.Process.Pid // unshare
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", started, started))
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(children)))
	return pid
}

// Outside is the PID, from outside, of a process of the namespace.
func (b *Baton) Outside(pid int) int {
	b.tb.Helper()
	for _, p := range b.Tree() {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "NSpid:" && f[2] == strconv.Itoa(pid) {
				return p.PID
			}
		}
	}
	b.tb.Fatalf("there is no process %d in the namespace", pid)
	return 0
}

// Join returns a command that runs a script of /bin/sh in the namespace, as `docker exec` would: as a child of somebody
// outside of it.
func (b *Baton) Join(script string) *exec.Cmd {
	b.tb.Helper()
	cmd := exec.Command("nsenter", append(b.joinFlags(), "/bin/sh", "-c", script)...)
	cmd.Dir = b.Dir
	return cmd
}

func (b *Baton) joinFlags() []string {
	flags := []string{"--target", strconv.Itoa(b.PID()), "--pid", "--mount"}
	if os.Geteuid() != 0 {
		flags = append(flags, "--user", "--preserve-credentials")
	}
	return append(flags, "--wd="+b.Dir)
}
