package keeper

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/wire"
)

// masterless is a keeper whose master has died again and again, and a client at its control socket. The test's goroutine
// is the loop while a question is asked.
func masterless(t *testing.T) (*keeper, func(method, path string) (int, http.Header, string)) {
	t.Helper()
	k, master := serving(t)
	path := filepath.Join(t.TempDir(), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 8); err != nil {
		t.Fatal(err)
	}
	k.store.put(EntryControl, entry{fd: fd, data: path})
	master.dies()
	k.backoff.deaths = restartFree
	k.planRestart(0)
	if k.control == nil {
		t.Fatal("nobody answers")
	}
	t.Cleanup(k.standDown)
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	return k, func(method, path string) (int, http.Header, string) {
		t.Helper()
		type answer struct {
			resp *http.Response
			err  error
		}
		done := make(chan answer)
		go func() {
			req, err := http.NewRequest(method, "http://baton"+path, nil)
			if err != nil {
				done <- answer{err: err}
				return
			}
			resp, err := c.Do(req)
			done <- answer{resp, err}
		}()
		for {
			select {
			case f := <-k.calls:
				f()
			case a := <-done:
				if a.err != nil {
					t.Fatal(a.err)
				}
				defer func() { _ = a.resp.Body.Close() }()
				b, _ := io.ReadAll(a.resp.Body)
				return a.resp.StatusCode, a.resp.Header, string(b)
			}
		}
	}
}

func TestStatusWithoutAMaster(t *testing.T) {
	t.Parallel()
	k, ask := masterless(t)
	k.store.put(EntryStats, entry{fd: -1, data: `{"cut_requests":3,"crashes":4}`})
	k.store.put(EntryCount, entry{fd: -1, data: `{"count":5,"config":2}`})
	k.store.put(EntryExe, entry{fd: -1, data: "v7"})
	k.store.put(WorkerEntry(70), entry{fd: -1, data: `{"generation":1,"slot":1}`})
	k.store.put(WorkerEntry(71), entry{fd: -1, data: `{"generation":1,"slot":0,"draining":true}`})
	k.store.put(WorkerEntry(72), entry{fd: -1, data: `{"generation":1,"slot":2}`})
	k.dead[72] = 9
	k.lastDeath, k.restarts = "exit status 7", 6
	k.publish(wire.Result{Seen: 8, Error: "no"})
	code, _, body := ask("GET", "/status")
	var st wire.Status
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != 200 {
		t.Fatal(code, body, err)
	}
	if st.MasterPID != 0 || st.State != "no master" || st.KeeperPID != k.pid || st.Generation != 1 || st.Version != "v7" || st.MasterRestarts != 6 {
		t.Errorf("%+v", st)
	}
	if st.CutRequests != 3 || st.Crashes != 4 || st.WorkersWanted != 5 || st.WorkersConfig != 2 || st.LastReload.ID != 8 || st.LastReload.OK {
		t.Errorf("%+v", st)
	}
	if len(st.Workers) != 2 || st.Workers[0].PID != 71 || st.Workers[0].State != "draining" || st.Workers[1].State != "serving" {
		t.Errorf("%+v", st.Workers)
	}
	if len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "2 times in a row, last: exit status 7; the next start is in") {
		t.Errorf("%q", st.Warnings)
	}
	k.starting = 1 << 30
	if _, _, body := ask("GET", "/status"); !strings.Contains(body, "the next one is starting") {
		t.Error(body)
	}
}

func TestWhatNeedsAMasterIsRefused(t *testing.T) {
	t.Parallel()
	k, ask := masterless(t)
	k.dl.restart = time.Now().Add(2500 * time.Millisecond)
	for _, q := range [][2]string{{"POST", "/reload"}, {"POST", "/reload?async=1"}, {"GET", "/reload/1"}, {"POST", "/resize?workers=2"}} {
		if code, head, body := ask(q[0], q[1]); code != 503 || head.Get("Retry-After") != "3" || !strings.Contains(body, "there is no master") {
			t.Errorf("%v: %d, %v, %s", q, code, head, body)
		}
	}
	if k.count != 0 {
		t.Error("a refused reload was counted")
	}
}

func TestStopWithoutAMaster(t *testing.T) {
	k, ask := masterless(t)
	if code, _, body := ask("POST", "/stop"); code != 202 || !k.stopping || !strings.Contains(body, "keeper_pid") {
		t.Errorf("%d, %s, stopping %v", code, body, k.stopping)
	}
	if _, _, body := ask("GET", "/status"); !strings.Contains(body, `"stopping"`) {
		t.Error(body)
	}
}

// The keeper does not compete with a master for who asks.
func TestStandInStandsDown(t *testing.T) {
	t.Parallel()
	k, ask := masterless(t)
	again := k.newActor(t, wire.RoleRestart, 1<<29)
	k.current = again.s
	if code, head, _ := ask("GET", "/status"); code != 503 || head.Get("Retry-After") != "0" {
		t.Errorf("accepted before, answered after the master had come: %d, %v", code, head)
	}
	k.current, k.starting = nil, again.s.pid
	again.says(wire.Commit{})
	if k.control != nil || !k.dl.restart.IsZero() || !k.dl.answer.IsZero() {
		t.Error("the keeper still answers, or means to")
	}
	k.standIn()
	if k.control != nil {
		t.Error("the keeper answers beside a master")
	}
}
