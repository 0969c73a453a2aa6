package promises_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
	"baton/scripts/load"
)

// hangTimeout is long enough for a busy machine and short enough for a test.
const hangTimeout = 3 * time.Second

// TestStoppedWorkerIsReplaced: with hang_timeout a worker that is stopped is killed and replaced, by a restarted master
// as well; the others are not touched, and no request of theirs fails.
func TestStoppedWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("master restarted ", restarted), func(t *testing.T) {
			t.Parallel()
			s := unwatchedSite(t).with(fmt.Sprintf("hang_timeout = %q", hangTimeout))
			s.workers = 3
			b := start(t, s)
			st := b.Status()
			if restarted {
				b.Kill(st.MasterPID)
				st = b.AwaitStatus("another master", func(now mastertest.Status) bool {
					return now.MasterPID > 0 && now.MasterPID != st.MasterPID && now.Settled()
				})
			}
			hung := st.Workers[1].PID
			mastertest.Freeze(hung) // before anybody has a connection to it
			clients := load.Start(t.Context(),
				load.Config{Target: s.listen[0], Classes: load.Mix(2, 4, 4), MaxPause: 200 * time.Millisecond})
			b.AwaitStatus("a hung worker", func(now mastertest.Status) bool { return now.Hung == 1 })
			end := b.AwaitSettled()
			wantNoLoss(t, clients)
			if end.Crashes != 1 || end.Hung != 1 || has(end, hung) {
				t.Errorf("%+v", end)
			}
			for _, w := range st.Workers {
				if w.PID != hung && !has(end, w.PID) {
					t.Errorf("worker %d was not hung, and is gone: %+v", w.PID, end)
				}
			}
			if !strings.Contains(b.Log(), "no heartbeat for hang_timeout") {
				t.Error("the log does not say why")
			}
		})
	}
}

// TestDrainingWorkerHangs: one of an older generation is watched as well, by the master that has adopted it, though the
// new configuration does not ask for it. Its drain would last for longer than the test waits.
func TestDrainingWorkerHangs(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s.with(fmt.Sprintf("hang_timeout = %q", hangTimeout)))
	hung := b.Status().Workers[0].PID
	mastertest.Freeze(hung)
	b.WriteConfig(s.String())
	b.Reload()
	st := b.AwaitStatus("a hung worker", func(now mastertest.Status) bool { return now.Hung == 1 })
	if end := b.AwaitSettled(); has(end, hung) || end.Generation != 2 || end.Crashes != 0 {
		t.Errorf("%+v, and then %+v", st, end)
	}
}

// TestSuspendIsNoHang: when the whole tree has slept for longer than hang_timeout, nobody is replaced, though the
// master is awake a while before its workers.
func TestSuspendIsNoHang(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t).with(fmt.Sprintf("hang_timeout = %q", hangTimeout))
	b := start(t, s)
	st := b.Status()
	workers := st.PIDs("")
	all := append([]int{st.SupervisorPID, st.MasterPID}, workers...)
	for _, pid := range all {
		signal(t, pid, unix.SIGSTOP)
	}
	sleep(hangTimeout + time.Second)
	for _, pid := range all {
		signal(t, pid, unix.SIGCONT)
		if pid == st.MasterPID {
			b.AwaitLog("the master's word", 0,
				func(text string) bool { return strings.Contains(text, "was not running") })
		}
	}
	sleep(hangTimeout + time.Second) // they would be killed by then
	end := b.AwaitSettled()
	if got := end.PIDs(""); !slices.Equal(got, workers) || end.Hung+end.Crashes != 0 {
		t.Errorf("workers %v, before %v; %+v", got, workers, end)
	}
}

// TestDeadlockedWorkerIsReplaced: what a heartbeat notices besides a stopped process, and that it is no hang if a
// handler only waits.
func TestDeadlockedWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		path  string
		env   []string
		hangs bool
	}{
		{"/deadlock", nil, true},                               // of the application's own lock, which its check takes
		{"/spin", []string{"GODEBUG=asyncpreemptoff=1"}, true}, // there is one P, and it has no moment for anybody else
		{"/wait", nil, false},
	} {
		t.Run(tc.path, func(t *testing.T) {
			t.Parallel()
			b, address := startMoody(t, map[string]any{
				"Workers": 2, "WorkerCPUs": 1, "HangTimeout": hangTimeout, "StopTimeout": time.Second,
			}, tc.env...)
			before := b.Status().PIDs("")
			ill := connect(t, address, 1)[0]
			pid := askPID(t, ill)
			fmt.Fprintf(ill, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", tc.path)
			if !tc.hangs {
				sleep(hangTimeout + time.Second)
				if st := b.Status(); !slices.Equal(st.PIDs(""), before) || st.Hung != 0 {
					t.Errorf("%+v", st)
				}
				return
			}
			wantReplaced(t, b, pid, before)
			askPID(t, connect(t, address, 1)[0])
		})
	}
}

// TestStuckAcceptLoopIsReplaced: a worker of which nobody accepts, while connections wait in its own queue. They are
// answered by the others.
func TestStuckAcceptLoopIsReplaced(t *testing.T) {
	t.Parallel()
	b, address := startMoody(t, map[string]any{"Workers": 2, "HangTimeout": hangTimeout}, inline)
	before := b.Status().PIDs("")
	ill := connect(t, address, 1)[0]
	pid := askPID(t, ill)
	fmt.Fprintf(ill, "GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
	waiting := connect(t, address, 20)
	answers := make(chan error, len(waiting))
	for _, c := range waiting {
		go func() {
			_, err := c.Write([]byte("GET /last HTTP/1.1\r\nHost: x\r\n\r\n"))
			if err == nil {
				err = answered(c)
			}
			answers <- err
		}()
	}
	wantReplaced(t, b, pid, before)
	for range waiting {
		if err := <-answers; err != nil {
			t.Errorf("a connection that waited: %v", err)
		}
	}
}

// askPID asks a moody worker who it is.
func askPID(tb testing.TB, c net.Conn) int {
	tb.Helper()
	_ = c.SetDeadline(time.Now().Add(mastertest.Timeout))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		tb.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	pid, err := strconv.Atoi(string(body))
	if err != nil {
		tb.Fatal(err)
	}
	return pid
}

// wantReplaced waits until the worker pid has been replaced because it hung; the others stay.
func wantReplaced(tb testing.TB, b *mastertest.Baton, pid int, before []int) {
	tb.Helper()
	st := b.AwaitStatus("a hung worker, and another one",
		func(s mastertest.Status) bool { return s.Hung == 1 && s.Settled() })
	for _, p := range before {
		if has(st, p) != (p != pid) {
			tb.Errorf("%d has hung; %v were there before; %+v", pid, before, st)
		}
	}
}
