package promises_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestNothingLeaks: after 100 reloads, some of them failed, with kills and resizes, everything is as after the first.
// What a resize has made with reuse_port stays, and is used again by the next one: so it is done once before.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	exclusive(t)
	n := *repeat * 100
	if testing.Short() {
		n = 20
	}
	s := unwatchedSite(t)
	s.routes += fmt.Sprintf("[[listen]]\naddress = %q\nreuse_port = true\n", mastertest.FreePort(t))
	stacks := t.TempDir()
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(), Env: []string{"BATON_TEST_STACKS=" + stacks},
		Binary: mastertest.Build(t, mastertest.BuildOptions{
			NoRace: true,
			Add:    map[string]string{"zz_stacks.go": tellsStacks},
		}),
	})
	upAndDown(t, b)
	for range 5 {
		b.Reload()
	}
	before := takeSnapshot(t, b)
	memory := rss(t, b)
	supervisor := restingGoroutines(t, stacks, b.PID())
	for i := range n {
		if i%10 == 9 {
			b.WriteConfig("colour = 1\n")
			if r := b.CLI("reload"); r.Code != 1 {
				t.Errorf("a broken config: exit code %d", r.Code)
			}
			b.WriteConfig(s.String())
		}
		switch st := b.Status(); i % 25 {
		case 5:
			b.Kill(st.MasterPID)
			b.AwaitStatus("another master",
				func(now mastertest.Status) bool { return now.MasterPID != 0 && now.MasterPID != st.MasterPID })
		case 10:
			b.Kill(b.AwaitSettled().PIDs("serving")[0])
		case 15:
			upAndDown(t, b)
		}
		b.Reload()
	}
	after := takeSnapshot(t, b)
	if !reflect.DeepEqual(before.supervisorFDs, after.supervisorFDs) {
		t.Errorf("open files of the supervisor: %v, then %v", before.supervisorFDs, after.supervisorFDs)
	}
	if !reflect.DeepEqual(before.masterFDs, after.masterFDs) {
		t.Errorf("open files of the master: %v, then %v", before.masterFDs, after.masterFDs)
	}
	if len(before.tree) != len(after.tree) {
		t.Errorf("processes: %v, then %v", before.tree, after.tree)
	}
	grown := rss(t, b)
	for who := range memory {
		// A heap grows to some 4 MB before it is collected for the first time.
		if limit := memory[who] + 8<<20; grown[who] > limit {
			t.Errorf("memory of the %s: %d KB, then %d KB", who, memory[who]>>10, grown[who]>>10)
		}
	}
	t.Logf("memory in KB: supervisor %d, then %d; master %d, then %d",
		memory["supervisor"]>>10, grown["supervisor"]>>10, memory["master"]>>10, grown["master"]>>10)
	supervisor.awaitAgain(t)

	// What a master leaks is gone with it at the next reload, so there is none here.
	master := restingGoroutines(t, stacks, b.Status().MasterPID)
	for range 5 {
		upAndDown(t, b)
	}
	b.Kill(b.AwaitSettled().PIDs("serving")[0])
	b.AwaitSettled()
	master.awaitAgain(t)
}

// tellsStacks is an init function by which every process says which goroutines it has, on a socket that is named after
// it.
const tellsStacks = `package main

import (
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
)

func init() {
	dir := os.Getenv("BATON_TEST_STACKS")
	if dir == "" {
		return // a command
	}
	path := filepath.Join(dir, strconv.Itoa(os.Getpid()))
	_ = os.Remove(path) // before its exec it was here already
	l, err := net.Listen("unix", path)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				panic(err)
			}
			_ = pprof.Lookup("goroutine").WriteTo(c, 1)
			c.Close()
		}
	}()
}
`

// profile has the goroutines of a process at some moment.
type profile struct {
	socket string
	count  int
	stacks string
}

// goroutines asks a process that was built with tellsStacks.
func goroutines(tb testing.TB, dir string, pid int) profile {
	tb.Helper()
	p := profile{socket: filepath.Join(dir, strconv.Itoa(pid))}
	c, err := net.Dial("unix", p.socket)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	text, err := io.ReadAll(c)
	if err != nil {
		tb.Fatal(err)
	}
	p.stacks = string(text)
	if _, err := fmt.Sscanf(p.stacks, "goroutine profile: total %d", &p.count); err != nil {
		tb.Fatalf("%v: %s", err, text)
	}
	return p
}

// restingGoroutines asks until the answer stays the same: what answered our question for the status is one for a
// moment.
func restingGoroutines(tb testing.TB, dir string, pid int) (resting profile) {
	tb.Helper()
	same := 0
	mastertest.Await(tb, mastertest.Text("the goroutines of a process to stay the same"), func() bool {
		now := goroutines(tb, dir, pid)
		if same++; now.count != resting.count {
			resting, same = now, 0
		}
		return same == 20
	})
	return resting
}

// awaitAgain waits until the process has as many goroutines as then, or fewer.
func (p profile) awaitAgain(tb testing.TB) {
	tb.Helper()
	dir, name := filepath.Split(p.socket)
	pid, _ := strconv.Atoi(name)
	now := p
	mastertest.Await(tb, func() string {
		return fmt.Sprintf("%d goroutines, not %d:\n%s\nthere were:\n%s", p.count, now.count, now.stacks, p.stacks)
	}, func() bool {
		now = goroutines(tb, dir, pid)
		return now.count <= p.count
	})
	tb.Logf("%d goroutines, then %d", p.count, now.count)
}

// upAndDown resizes twice.
func upAndDown(t *testing.T, b *mastertest.Baton) {
	t.Helper()
	for _, n := range []int{4, 2} {
		resize(t, b, n)
		b.AwaitSettled()
	}
}

func rss(tb testing.TB, b *mastertest.Baton) map[string]int64 {
	tb.Helper()
	st := b.Status()
	sizes := map[string]int64{}
	for who, pid := range map[string]int{"supervisor": st.SupervisorPID, "master": st.MasterPID} {
		n, err := mastertest.RSS(pid)
		if err != nil {
			tb.Fatal(err)
		}
		sizes[who] = n
	}
	return sizes
}

// TestIdleSleeps: no process wakes up without a reason.
func TestIdleSleeps(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	quietTime := 10 * time.Second
	if testing.Short() {
		quietTime = 3 * time.Second
	}
	b := mastertest.Start(t, mastertest.Options{
		Config: watchedSite(t).String(), Binary: mastertest.Build(t, mastertest.BuildOptions{NoRace: true}),
		Env: []string{mastertest.NewSystemd(t, true).Env()}, // which has set no watchdog
	})
	b.Reload()
	takeSnapshot(t, b)
	awaitSleep(t, b)
	file := filepath.Join(t.TempDir(), "trace") // not where the config file is: that directory is watched
	args := []string{"-f", "-q", "-ttt", "-o", file}
	for _, p := range b.Tree() {
		args = append(args, "-p", strconv.Itoa(p.PID))
	}
	cmd := exec.Command(strace, args...)
	text := &strings.Builder{}
	cmd.Stderr = text
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	sleep(quietTime)
	_ = cmd.Process.Signal(unix.SIGINT)
	_ = cmd.Wait()
	if strings.Contains(text.String(), "not permitted") {
		t.Skip("strace may not trace here: ", text)
	}
	trace, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var awake []string
	for line := range strings.Lines(string(trace)) {
		switch {
		case strings.Contains(line, "restart_syscall"), strings.Contains(line, "<detached"),
			strings.Contains(line, "strace:"):
		case strings.Contains(line, "unfinished"), strings.Contains(line, "resuming"), strings.Contains(line, "= ?"):
			// what they were in when strace came
		default:
			awake = append(awake, strings.TrimSpace(line))
		}
	}
	if len(awake) > 0 {
		t.Errorf("%d system calls in %v:\n%s", len(awake), quietTime, strings.Join(awake[:min(40, len(awake))], "\n"))
	}
}

// awaitSleep waits until no thread of any process has run for three seconds: what a reload gives others time for has
// passed, and the Go runtime has come to rest. What never sleeps is left to the trace, which says what it does.
func awaitSleep(tb testing.TB, b *mastertest.Baton) {
	tb.Helper()
	const still = 3 * time.Second
	switches, since := "", time.Now()
	for begin := since; time.Since(since) < still && time.Since(begin) < mastertest.Timeout; sleep(still / 30) {
		if now := contextSwitches(b); now != switches {
			switches, since = now, time.Now()
		}
	}
}

// contextSwitches are how often each thread of each process has gone to sleep, as the kernel counts.
func contextSwitches(b *mastertest.Baton) string {
	var all strings.Builder
	for _, p := range b.Tree() {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID))
		for _, f := range files {
			text, _ := os.ReadFile(f)
			_, count, _ := strings.Cut(string(text), "voluntary_ctxt_switches:")
			fmt.Fprintln(&all, f, count)
		}
	}
	return all.String()
}
