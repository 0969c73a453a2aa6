package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// errForeign is why a port does not do: somebody else listens on it.
var errForeign = errors.New("its port was taken by another process")

// isOurs looks whether the port is listened on by a process of the instance's group: another program of the machine
// may have been faster.
func (i *Instance) isOurs() error {
	inodes := listeners(i.addr.port)
	for _, pid := range group(i.PID()) {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || len(links) == 0 {
			return nil // it may not be looked at
		}
		for _, l := range links {
			to, _ := os.Readlink(l)
			if inodes[to] {
				return nil
			}
		}
	}
	return errForeign
}

// listeners returns the sockets that listen on a port, as /proc calls them.
func listeners(port int) map[string]bool {
	const listening = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	found := map[string]bool{}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		b, _ := os.ReadFile(table)
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[3] == listening && strings.HasSuffix(f[1], suffix) {
				found["socket:["+f[9]+"]"] = true
			}
		}
	}
	return found
}

// group lists the processes of a group.
func group(pgid int) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if g, err := unix.Getpgid(pid); err == nil && g == pgid {
			pids = append(pids, pid)
		}
	}
	return pids
}
