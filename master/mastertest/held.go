package mastertest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Peers are the other ends ("127.0.0.1:40000") of the TCP connections that a process has open: who is cut if it dies now.
// What waits in the queue of a listening socket is nobody's yet, and not among them.
func Peers(pid int) (map[string]bool, error) {
	fds, err := OpenFDs(pid)
	if err != nil {
		return nil, err
	}
	mine := map[string]bool{}
	for _, fd := range fds {
		if inode, ok := strings.CutPrefix(fd, "socket:["); ok {
			mine[strings.TrimSuffix(inode, "]")] = true
		}
	}
	peers := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 10 || !mine[f[9]] {
				continue
			}
			if peer, ok := parsePeer(f[2]); ok {
				peers[peer] = true
			}
		}
	}
	return peers, nil
}

// parsePeer reads "0100007F:9C40": words of 32 bits in the machine's order, and the port.
func parsePeer(text string) (string, bool) {
	host, port, ok := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || perr != nil || n == 0 {
		return "", false
	}
	for i := 0; i+4 <= len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)).String(), ok
}

// KillHolding kills a process in a way that says which connections die with it: it is stopped, its peers are handed to
// note, and only then it is killed. It reports whether there was such a process.
func KillHolding(pid int, note func(peers map[string]bool)) bool {
	if unix.Kill(pid, unix.SIGSTOP) != nil {
		return false
	}
	awaitStopped(pid)
	peers, err := Peers(pid)
	if err == nil {
		note(peers)
	}
	return unix.Kill(pid, unix.SIGKILL) == nil && err == nil
}

// awaitStopped returns when every thread has stopped, which is a moment after kill has returned. Only a parent is told.
func awaitStopped(pid int) {
	for !stopped(pid) {
		time.Sleep(100 * time.Microsecond)
	}
}

func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, t := range threads {
		text, _ := os.ReadFile(t)
		_, rest, _ := strings.Cut(string(text), ") ")
		if rest != "" && !strings.ContainsRune("TtZX", rune(rest[0])) {
			return false
		}
	}
	return true
}
