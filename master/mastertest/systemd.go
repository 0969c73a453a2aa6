package mastertest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Systemd plays the service manager: a socket for notifications, sockets to pass, and a store for descriptors.
type Systemd struct {
	tb       testing.TB
	address  string
	conn     *net.UnixConn
	messages chan Notification

	mu      sync.Mutex
	stored  []stored // in the order in which they came
	reading sync.WaitGroup
}

// Notification is one message to systemd.
type Notification struct {
	Text string
	PID  int // of the sender, as the kernel says
}

// PassedFile is a descriptor with systemd's name for it.
type PassedFile struct {
	Name string
	File *os.File
}

// stored is a raw descriptor in the store.
type stored struct {
	name string
	fd   int
}

// NewSystemd opens a notification socket: an abstract one, or a path.
func NewSystemd(tb testing.TB, abstract bool) *Systemd {
	tb.Helper()
	s := &Systemd{tb: tb, messages: make(chan Notification, 4096)}
	//nolint:usetesting // with the name of the test in it, the path would be too long for a socket
	dir, err := os.MkdirTemp("", "systemd")
	if err != nil {
		tb.Fatal(err)
	}
	s.address = filepath.Join(dir, "notify")
	if abstract {
		s.address = "@" + s.address
	}
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.address, Net: "unixgram"}); err != nil {
		tb.Fatal(err)
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		tb.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED,
			1)
	}); err != nil {
		tb.Fatal(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	s.reading.Go(s.read)
	tb.Cleanup(func() {
		s.conn.Close()
		s.reading.Wait()
		for _, f := range s.stored {
			unix.Close(f.fd)
		}
		os.RemoveAll(dir)
	})
	return s
}

// Env is what tells the processes where systemd is.
func (s *Systemd) Env() string { return "NOTIFY_SOCKET=" + s.address }

// Service completes options: the environment that systemd sets, and what it passes: files, and then what it has stored.
func (s *Systemd) Service(opts Options, files ...PassedFile) Options {
	opts.Env = append(opts.Env, s.Env(), "FDSTORE=64")
	opts.Held = true
	opts = Pass(s.tb, opts, files...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.stored {
		opts = addFile(s.tb, opts, f.name, f.fd)
	}
	return opts
}

// Pass completes options as socket activation does.
func Pass(tb testing.TB, opts Options, files ...PassedFile) Options {
	tb.Helper()
	// Only the process itself knows its PID.
	opts.Shell = `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$BATON" "$@"`
	opts.Held = opts.Held || len(files) > 0
	for _, f := range files {
		opts = addFile(tb, opts, f.Name, int(f.File.Fd()))
	}
	return opts
}

// addFile passes one descriptor more.
func addFile(tb testing.TB, opts Options, name string, fd int) Options {
	tb.Helper()
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	opts.Pass = append(opts.Pass, os.NewFile(uintptr(dup), name))
	names := name
	for _, kv := range opts.Env {
		if v, ok := strings.CutPrefix(kv, "LISTEN_FDNAMES="); ok {
			names = v + ":" + name
		}
	}
	opts.Env = append(opts.Env, fmt.Sprintf("LISTEN_FDS=%d", len(opts.Pass)), "LISTEN_FDNAMES="+names)
	return opts
}

func (s *Systemd) read() {
	buf, oob := make([]byte, 1<<16), make([]byte, 1<<12)
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			close(s.messages)
			return
		}
		m := Notification{Text: string(buf[:n])}
		fds := s.control(&m, oob[:oobn])
		if m.Has("BARRIER=1") { // closing its end is the answer
			for _, fd := range fds {
				unix.Close(fd)
			}
			continue
		}
		s.keep(m, fds)
		s.messages <- m
	}
}

// control reads who has sent a message, and what came along.
func (s *Systemd) control(m *Notification, oob []byte) (fds []int) {
	parts, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		s.tb.Error(err)
		return nil
	}
	for _, part := range parts {
		if cred, err := unix.ParseUnixCredentials(&part); err == nil {
			m.PID = int(cred.Pid)
		}
		if got, err := unix.ParseUnixRights(&part); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// keep does what systemd does about FDSTORE=1 and FDSTOREREMOVE=1.
func (s *Systemd) keep(m Notification, fds []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := m.Value("FDNAME")
	if m.Has("FDSTOREREMOVE=1") {
		s.stored = slices.DeleteFunc(s.stored, func(f stored) bool {
			if f.name == name {
				unix.Close(f.fd)
			}
			return f.name == name
		})
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if !m.Has("FDPOLL=0") && hungUp(fd) {
			unix.Close(fd) // as systemd does
			continue
		}
		s.stored = append(s.stored, stored{name, fd})
	}
}

// hungUp is by what systemd knows that a stored descriptor is of no use.
func hungUp(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// Stored are the names of what the store has, sorted.
func (s *Systemd) Stored() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, f := range s.stored {
		names = append(names, f.name)
	}
	slices.Sort(names)
	return names
}

// Next is the next message.
func (s *Systemd) Next() Notification {
	s.tb.Helper()
	timer := time.NewTimer(Timeout)
	defer timer.Stop()
	select {
	case m, ok := <-s.messages:
		if !ok {
			s.tb.Fatal("the notification socket is closed")
		}
		return m
	case <-timer.C:
		s.tb.Fatalf("systemd has heard nothing for %v", Timeout)
	}
	return Notification{}
}

// Await reads messages up to one that has an assignment, as "READY=1", and returns it and those before it that said
// anything of the service's state.
func (s *Systemd) Await(assignment string) (m Notification, before []Notification) {
	s.tb.Helper()
	for {
		m := s.Next()
		if m.Has(assignment) {
			return m, before
		}
		if m.State() != "" {
			before = append(before, m)
		}
	}
}

// Heard are the messages that nobody has read yet.
func (s *Systemd) Heard() []Notification {
	var all []Notification
	for {
		select {
		case m := <-s.messages:
			all = append(all, m)
		default:
			return all
		}
	}
}

// Reload does what `systemctl reload` does with Type=notify-reload: it sends HUP and waits for a RELOADING=1 that is
// not older than that, and then for a READY=1. It returns the messages up to there that said anything of the state.
func (s *Systemd) Reload(b *Baton) []Notification {
	s.tb.Helper()
	return s.StartReload(b)()
}

// StartReload sends the HUP and returns what waits for the answer.
func (s *Systemd) StartReload(b *Baton) (wait func() []Notification) {
	s.tb.Helper()
	began := monotonicUsec()
	b.Signal(unix.SIGHUP)
	return func() []Notification { return s.awaitReload(began) }
}

func (s *Systemd) awaitReload(began int64) []Notification {
	s.tb.Helper()
	var all []Notification
	for young := false; ; {
		m := s.Next()
		if m.State() == "" {
			continue
		}
		all = append(all, m)
		young = young || m.Has("RELOADING=1") && m.Monotonic(s.tb) >= began
		if young && m.Has("READY=1") {
			return all
		}
	}
}

// monotonicUsec is the clock of MONOTONIC_USEC=.
func monotonicUsec() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano() / 1000
}

// Has reports whether the message has an assignment.
func (m Notification) Has(assignment string) bool {
	return slices.Contains(strings.Split(m.Text, "\n"), assignment)
}

// Value is what is assigned to a name, "" if nothing is.
func (m Notification) Value(name string) string {
	for line := range strings.Lines(m.Text) {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSuffix(v, "\n")
		}
	}
	return ""
}

// State is what the message says of the service's state: READY, RELOADING, STOPPING, or "".
func (m Notification) State() string {
	for _, s := range []string{"READY", "RELOADING", "STOPPING"} {
		if m.Has(s + "=1") {
			return s
		}
	}
	return ""
}

// Monotonic is the MONOTONIC_USEC of the message.
func (m Notification) Monotonic(tb testing.TB) int64 {
	tb.Helper()
	usec, err := strconv.ParseInt(m.Value("MONOTONIC_USEC"), 10, 64)
	if err != nil {
		tb.Errorf("%q: %v", m.Text, err)
	}
	return usec
}

// States are those of messages, in a line.
func States(all []Notification) string {
	var words []string
	for _, m := range all {
		if st := m.State(); st != "" {
			words = append(words, st)
		}
	}
	return strings.Join(words, " ")
}

// Environ is the environment with which a process was started, by name.
func Environ(pid int) (map[string]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, kv := range bytes.Split(b, []byte{0}) {
		name, value, _ := strings.Cut(string(kv), "=")
		env[name] = value
	}
	return env, nil
}
