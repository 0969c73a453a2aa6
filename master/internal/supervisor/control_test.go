package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/spawn"
	"baton/master/internal/status"
)

// site is a supervisor with a control socket. The test's goroutine is the loop while a question is asked.
type site struct {
	*supervisor
	t      *testing.T
	client http.Client
}

type response struct {
	code int
	body string
}

// listening gives a supervisor a control socket, and answers on it.
func listening(t *testing.T, sv *supervisor) *site {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	sv.registry.put(EntryControl, entry{FD: controlSocket(t, path), Data: path})
	sv.front.resume()
	if sv.front.server == nil {
		t.Fatal(sv.front.problems)
	}
	t.Cleanup(sv.front.stop)
	return &site{supervisor: sv, t: t, client: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}
}

func controlSocket(t *testing.T, path string) int {
	t.Helper()
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
	return fd
}

// masterless is a supervisor whose master has died again and again.
func masterless(t *testing.T) *site {
	t.Helper()
	sv, master := serving(t)
	master.dies()
	sv.restarts.backoff.Failures = restartBackoff.Free
	sv.planRestart(0)
	return listening(t, sv)
}

// asks sends a request, and runs the loop until it has come.
func (s *site) asks(what string) <-chan response {
	s.t.Helper()
	method, path, _ := strings.Cut(what, " ")
	done := make(chan response, 1)
	go func() {
		req, err := http.NewRequest(method, "http://baton"+path, nil)
		if err == nil {
			var resp *http.Response
			if resp, err = s.client.Do(req); err == nil {
				b, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				done <- response{resp.StatusCode, strings.TrimSpace(string(b))}
				return
			}
		}
		done <- response{body: err.Error()}
	}()
	select {
	case f := <-s.events.calls:
		f()
		s.front.answer(time.Now())
	case r := <-done: // by the server itself
		done <- r
	}
	return done
}

// hears runs the loop until the answer has come, at the time now.
func (s *site) hears(answered <-chan response, now time.Time) response {
	s.t.Helper()
	for {
		s.front.answer(now)
		select {
		case f := <-s.events.calls:
			f()
		case r := <-answered:
			return r
		}
	}
}

// ask asks, and hears what is answered at once.
func (s *site) ask(what string) response {
	s.t.Helper()
	return s.hears(s.asks(what), time.Now())
}

// waits fails the test if the answer is there before it is due.
func (s *site) waits(answered <-chan response, now time.Time) {
	s.t.Helper()
	s.front.answer(now)
	if len(s.front.questions) != 1 || s.front.at.IsZero() || !s.front.at.After(now) {
		s.t.Errorf("%d questions, to be looked at %v", len(s.front.questions), s.front.at)
	}
}

func TestStatusWithoutAMaster(t *testing.T) {
	t.Parallel()
	sv := masterless(t)
	sv.registry.put(EntryStats, entry{FD: -1, Data: `{"cut_requests":3,"crashes":4}`})
	sv.registry.put(EntryCount, entry{FD: -1, Data: `{"count":5,"config":2}`})
	sv.registry.put(EntryExe, entry{FD: -1, Data: "v7"})
	sv.registry.put(WorkerEntry(70), entry{FD: -1, Data: `{"generation":1,"slot":1}`})
	sv.registry.put(WorkerEntry(71), entry{FD: -1, Data: `{"generation":1,"slot":0,"draining":true}`})
	sv.registry.put(WorkerEntry(72), entry{FD: -1, Data: `{"generation":1,"slot":2}`})
	sv.dead[72] = 9
	sv.restarts.Last, sv.restarts.Total = "exit status 7", 6
	sv.publish(result{Seen: 8, Error: "no"})
	r := sv.ask("GET /status")
	var st status.Status
	if err := json.Unmarshal([]byte(r.body), &st); err != nil || r.code != 200 {
		t.Fatal(r, err)
	}
	if st.MasterPID != 0 || st.State != "no master" || st.SupervisorPID != sv.pid || st.Generation != 1 ||
		st.Version != "v7" || st.MasterRestarts != 6 {
		t.Errorf("%+v", st)
	}
	if st.CutRequests != 3 || st.Crashes != 4 || st.WorkersWanted != 5 || st.WorkersConfig != 2 ||
		st.LastReload.ID != 8 || st.LastReload.OK {
		t.Errorf("%+v", st)
	}
	if len(st.Workers) != 2 || st.Workers[0].PID != 71 || st.Workers[0].State != "draining" ||
		st.Workers[1].State != "serving" {
		t.Errorf("%+v", st.Workers)
	}
	if len(st.Warnings) != 1 ||
		!strings.Contains(st.Warnings[0], "2 times in a row, last: exit status 7; the next start is in") {
		t.Errorf("%q", st.Warnings)
	}
	sv.starting = &masterConn{pid: 1 << 30, phase: phaseFirst}
	again := sv.asks("GET /status")
	sv.waits(again, time.Now())
	if r := sv.hears(again, time.Now().Add(absentLimit)); !strings.Contains(r.body, "the next one is starting") {
		t.Error(r)
	}
}

// What needs a master waits for one, for a while.
func TestWhatNeedsAMaster(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"POST /reload", "GET /reload/1", "POST /resize?workers=2"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			sv := masterless(t)
			sv.request("HUP", true)
			answered := sv.asks(what)
			if what == "POST /reload" {
				(<-sv.events.calls)() // to wait for it
			}
			sv.waits(answered, time.Now())
			if r := sv.hears(answered, time.Now().Add(sv.masterLimit())); r.code != 503 ||
				!strings.Contains(r.body, "there is no master") {
				t.Errorf("%+v", r)
			}
			if len(sv.held.resizes) != 0 {
				t.Error("a resize that was refused will be done")
			}
		})
	}
}

func TestStopWithoutAMaster(t *testing.T) {
	sv := masterless(t)
	if r := sv.ask("POST /stop"); r.code != 202 || !sv.stopping.begun() || !strings.Contains(r.body, "supervisor_pid") {
		t.Errorf("%+v, stopping %v", r, sv.stopping.begun())
	}
	if r := sv.ask("GET /status"); !strings.Contains(r.body, `"stopping"`) {
		t.Error(r)
	}
	for _, what := range []string{"POST /reload", "POST /resize?workers=2"} {
		if r := sv.ask(what); r.code != 503 || !strings.Contains(r.body, "stopping") {
			t.Errorf("%s: %+v", what, r)
		}
	}
}

// The master's part comes from the master, and the supervisor adds its own.
func TestStatus(t *testing.T) {
	t.Parallel()
	s, master := serving(t)
	sv := listening(t, s)
	answered := sv.asks("GET /status")
	var q message.StatusRequest
	master.hears(&q)
	b, _ := json.Marshal(status.Status{
		Generation: 99, MasterPID: 7, State: "serving", Crashes: 4, Warnings: []string{"hot"},
	})
	fd, err := spawn.Memory("status", b)
	if err != nil {
		t.Fatal(err)
	}
	sv.front.problems.reexec = "old"
	master.says(message.StatusAnswer{ID: q.ID + 1}, hold(t).fd) // to nobody
	master.says(message.StatusAnswer(q), fd)
	r := sv.hears(answered, time.Now())
	var st status.Status
	if err := json.Unmarshal([]byte(r.body), &st); err != nil {
		t.Fatal(r, err)
	}
	if st.Generation != 1 || st.MasterPID != 7 || st.Crashes != 4 || st.SupervisorPID != sv.pid || st.Supervisor != "v" ||
		!slices.Equal(st.Warnings, []string{"hot", "old"}) || !st.LastReload.OK || len(sv.front.statuses.answers) != 0 {
		t.Errorf("%+v", st)
	}
}

// Who waits for the status while another master takes over gets it from that one.
func TestStatusOverAReload(t *testing.T) {
	t.Parallel()
	s, _, successor := reloading(t)
	sv := listening(t, s)
	answered := sv.asks("GET /status")
	successor.says(message.Commit{Seen: 1})
	successor.hears(&message.Committed{})
	sv.front.answer(time.Now())
	var q message.StatusRequest
	successor.hears(&q)
	fd, err := spawn.Memory("status", []byte(`{"master_pid":8}`))
	if err != nil {
		t.Fatal(err)
	}
	successor.says(message.StatusAnswer(q), fd)
	if r := sv.hears(answered, time.Now()); !strings.Contains(r.body, `"master_pid":8`) {
		t.Errorf("%+v", r)
	}
}

// A master that does not answer costs nobody more than seconds, and each command says so.
func TestSilentMaster(t *testing.T) {
	t.Parallel()
	for what, code := range map[string]int{"GET /status": 200, "POST /resize?workers=3": 504, "GET /reload/1": 200} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, _ := serving(t)
			sv := listening(t, s)
			child := sleeper(t)
			sv.current.pid = child.Process.Pid
			_ = child.Process.Signal(unix.SIGSTOP)
			if err := unix.Waitid(unix.P_PID, child.Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
				t.Fatal(err)
			}
			sv.request("test", false)
			if strings.Contains(what, "reload") {
				sv.startReload(time.Now())
			}
			answered := sv.asks(what)
			later := time.Now().Add(sv.masterLimit())
			if strings.Contains(what, "reload") {
				if later = sv.attemptBy; later.After(time.Now().Add(sv.masterLimit())) {
					t.Error("a reload waits longer for a sign of life")
				}
				sv.attemptTimeout()
				if sv.attempt != nil {
					t.Error("the reload was not given up")
				}
			} else {
				sv.waits(answered, time.Now())
			}
			want := fmt.Sprintf("the master (pid %d) does not answer: it is stopped", sv.current.pid)
			if r := sv.hears(answered, later); r.code != code || !strings.Contains(r.body, want) {
				t.Errorf("%+v, want %d, %s", r, code, want)
			}
			if len(sv.held.resizes)+len(sv.front.statuses.answers)+len(sv.front.questions) != 0 {
				t.Error("something is left of it")
			}
		})
	}
}

// A master that hangs while older workers drain is noticed by those who wait for them: it says nothing, and does not
// answer either. One that answers may take as long as it likes.
func TestDrainOfAStuckMaster(t *testing.T) {
	t.Parallel()
	s, master := serving(t)
	sv := listening(t, s)
	sv.current.pid = sleeper(t).Process.Pid
	sv.requests = 1
	sv.publish(result{Seen: 1, OK: true})
	answered := sv.asks("GET /reload/1?wait=drained")
	now := time.Now()
	for range 3 {
		now = now.Add(time.Hour)
		sv.waits(answered, now)
		var q message.StatusRequest
		master.hears(&q)
		master.says(message.Oldest{})
		sv.current.heard = now
		sv.waits(answered, now.Add(sv.masterLimit()-1))
	}
	sv.waits(answered, now.Add(sv.masterLimit()))
	want := fmt.Sprintf("the master (pid %d) does not answer", sv.current.pid)
	if r := sv.hears(answered, now.Add(2*sv.masterLimit())); r.code != 504 || !strings.Contains(r.body, want) {
		t.Errorf("%+v, want %s", r, want)
	}
}

// An answer is that of the reload that was asked for, or none.
func TestReloadAnswers(t *testing.T) {
	t.Parallel()
	s, _ := serving(t)
	sv := listening(t, s)
	sv.requests = maxResults + 12
	sv.publish(result{Seen: 2, Error: "port taken"})
	for i := range maxResults + 5 {
		sv.publish(result{Seen: int64(i + 5), OK: true})
	}
	for _, tt := range []struct {
		id   int
		code int
		body string
	}{
		{-5, 404, "no reload -5"},
		{0, 404, "no reload 0"},
		{maxResults + 13, 404, "no reload"},
		{2, 410, "forgotten"},
		{9, 410, "forgotten"},
		{10, 200, `{"id":10,"ok":true,"generation":1}`},
		{maxResults + 9, 200, fmt.Sprintf(`{"id":%d,"ok":true,"generation":1}`, maxResults+9)},
	} {
		if r := sv.ask(fmt.Sprintf("GET /reload/%d", tt.id)); r.code != tt.code || !strings.Contains(r.body, tt.body) {
			t.Errorf("%d: %+v, want %d %s", tt.id, r, tt.code, tt.body)
		}
	}
	if len(sv.results.All) != maxResults {
		t.Errorf("%d results are kept", len(sv.results.All))
	}
}

// A failed reload never turns into one that went well, nor a request that coalesced with it.
func TestResultOf(t *testing.T) {
	t.Parallel()
	sv := testSupervisor(t)
	sv.results.All = []result{{Seen: 1, OK: true}, {Seen: 3, Error: "x"}, {Seen: 3, OK: true}, {Seen: 7, OK: true}}
	for id, want := range map[int64]result{
		1: {Seen: 1, OK: true}, 2: {Seen: 3, Error: "x"}, 3: {Seen: 3, Error: "x"},
		4: {Seen: 7, OK: true}, 7: {Seen: 7, OK: true},
	} {
		if r, ok := sv.results.of(id); !ok || r != want {
			t.Errorf("request %d: %+v, %v", id, r, ok)
		}
	}
	if r, ok := sv.results.of(8); ok {
		t.Errorf("request 8 is running: %+v", r)
	}
}

// With wait=drained a reload is answered when all older workers have gone, with what was cut of them, whoever reloads
// meanwhile.
func TestCutsAreTheReloadsOwn(t *testing.T) {
	t.Parallel()
	s, master := serving(t)
	sv := listening(t, s)
	sv.requests = 2
	sv.generation = 2
	sv.publish(result{Seen: 1, OK: true})
	sv.generation = 3
	sv.publish(result{Seen: 2, OK: true})
	first := sv.asks("GET /reload/1?wait=drained")
	second := make(chan response, 1)
	go func() {
		resp, err := sv.client.Get("http://baton/reload/2?wait=drained")
		if err != nil {
			second <- response{body: err.Error()}
			return
		}
		defer func() { _ = resp.Body.Close() }()
		b, _ := io.ReadAll(resp.Body)
		second <- response{resp.StatusCode, strings.TrimSpace(string(b))}
	}()
	(<-sv.events.calls)()
	master.says(message.Cut{Generation: 2, Requests: 3})
	master.says(message.Cut{Generation: 1, Requests: 1, Connections: 1})
	master.says(message.Oldest{Generation: 2})
	const one = `{"id":1,"ok":true,"generation":2,"drained":true,"cut_requests":1,"cut_connections":1}`
	if r := sv.hears(first, time.Now()); r.body != one {
		t.Errorf("the first: %+v", r)
	}
	master.says(message.Cut{Generation: 2, Connections: 5})
	master.says(message.Cut{Generation: 3, Connections: 50})
	master.says(message.Oldest{Generation: 3})
	const two = `{"id":2,"ok":true,"generation":3,"drained":true,"cut_requests":4,"cut_connections":6}`
	if r := sv.hears(second, time.Now()); r.body != two {
		t.Errorf("the second: %+v", r)
	}
	if r := sv.ask("GET /reload/1?wait=drained"); !strings.Contains(r.body, `"cut_requests":1,"cut_connections":1`) {
		t.Errorf("the first, asked again: %+v", r)
	}
}

// Before the first COMMIT somebody is there already, and says so.
func TestControlBeforeAnythingServes(t *testing.T) {
	t.Parallel()
	sv := testSupervisor(t)
	a := sv.newActor(t, phaseFirst, 1<<30)
	sv.starting = a.s
	path := filepath.Join(t.TempDir(), "s")
	a.says(message.Put{Name: EntryControl, Data: path}, controlSocket(t, path))
	if sv.front.server == nil {
		t.Fatal("nobody answers")
	}
	t.Cleanup(sv.front.stop)
	if st := sv.front.status(); st.State != "starting" || st.MasterPID != 0 {
		t.Errorf("%+v", st)
	}
	a.says(message.Commit{})
	if sv.front.server == nil || sv.registry[EntryControl].FD < 0 {
		t.Error("nobody answers after COMMIT")
	}
	a.says(message.Drop{Name: EntryControl})
	if sv.front.server != nil {
		t.Error("a socket that is gone is answered on")
	}
}

// Before the supervisor executes another binary, all who have asked are answered; who comes then waits in the queue.
func TestCalmControl(t *testing.T) {
	t.Parallel()
	s, _ := serving(t)
	sv := listening(t, s)
	sv.ask("GET /version")
	if !sv.front.calm() || sv.front.server != nil {
		t.Error("not calm")
	}
	sv.front.resume()
	sv.request("test", false)
	answered := sv.asks("GET /reload/1") // is not answered
	if sv.front.calm() {
		t.Error("somebody waits for an answer")
	}
	sv.front.resume()
	sv.publish(result{Seen: 1, OK: true})
	if r := sv.hears(answered, time.Now()); r.code != 200 {
		t.Errorf("%+v", r)
	}
}

// A client that goes before it is answered leaves nothing behind.
func TestStatusOfAClientThatGoes(t *testing.T) {
	t.Parallel()
	sv, master := serving(t)
	ctx, cancel := context.WithCancel(t.Context())
	sv.front.add(question{ctx: ctx, poll: sv.front.askStatus(time.Now()), reply: make(chan answer, 1)})
	sv.front.answer(time.Now())
	master.hears(&message.StatusRequest{})
	cancel()
	sv.front.answer(time.Now())
	if n := len(sv.front.statuses.answers); n != 0 || len(sv.front.questions) != 0 {
		t.Errorf("%d answers are waited for", n)
	}
}
