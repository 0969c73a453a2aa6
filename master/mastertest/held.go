package mastertest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ends name a TCP connection. The client's alone would not: it may have the same port for two servers.
type Ends struct{ Client, Server string } // "127.0.0.1:40000"

// Served are the TCP connections that a process has open: what is cut if it dies now. What waits in the queue of a
// listening socket is nobody's yet, and not among them. The caller must be allowed to trace the process. (/proc/net/tcp
// would need no such right, but leaves entries out when others come and go while it is read.)
func Served(pid int) (map[Ends]bool, error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("connections of %d: %w", pid, err)
	}
	defer unix.Close(process)
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, fmt.Errorf("connections of %d: %w", pid, err)
	}
	served := map[Ends]bool{}
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		if err != nil {
			continue
		}
		ours, err := unix.PidfdGetfd(process, fd, 0)
		if errors.Is(err, unix.EBADF) {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("connections of %d: %w", pid, err)
		}
		if ends, ok := endsOf(ours); ok {
			served[ends] = true
		}
		unix.Close(ours)
	}
	return served, nil
}

// endsOf are the two ends of a connection that was accepted, if the descriptor is one.
func endsOf(fd int) (Ends, bool) {
	client, err := unix.Getpeername(fd)
	if err != nil {
		return Ends{}, false
	}
	server, err := unix.Getsockname(fd)
	if err != nil {
		return Ends{}, false
	}
	e := Ends{addressOf(client), addressOf(server)}
	return e, e.Client != "" && e.Server != ""
}

// addressOf is an address of TCP in words, else "".
func addressOf(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)).String()
	}
	return ""
}

// KillHolding kills a process in a way that says which connections die with it: it is stopped, they are handed to note,
// and only then it is killed. When it returns, nothing is open any more that the process had. It reports whether there
// was such a process.
func KillHolding(pid int, note func(served map[Ends]bool)) bool {
	if !Freeze(pid) {
		return false
	}
	served, err := Served(pid)
	if err == nil {
		note(served)
	}
	killed := unix.Kill(pid, unix.SIGKILL) == nil
	for !ended(pid) {
		time.Sleep(100 * time.Microsecond)
	}
	return killed && err == nil
}

// Freeze stops a process, and returns when no thread of it runs any more. It reports whether there was such a process.
func Freeze(pid int) bool {
	if unix.Kill(pid, unix.SIGSTOP) != nil {
		return false
	}
	awaitStopped(pid)
	return true
}

// awaitStopped returns when every thread has stopped, which is a moment after kill has returned. Only a parent is told.
func awaitStopped(pid int) {
	for !stopped(pid) {
		time.Sleep(100 * time.Microsecond)
	}
}

func stopped(pid int) bool { return threadsAre(pid, "TtZX") }

// ended reports whether no thread of a process is left, and so nothing that it had open. The first thread may be a
// zombie long before.
func ended(pid int) bool { return threadsAre(pid, "ZX") }

// threadsAre reports whether each thread of a process is in one of the states; those of no process are.
func threadsAre(pid int, states string) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, t := range threads {
		text, _ := os.ReadFile(t)
		_, rest, _ := strings.Cut(string(text), ") ")
		if rest != "" && !strings.ContainsRune(states, rune(rest[0])) {
			return false
		}
	}
	return true
}
