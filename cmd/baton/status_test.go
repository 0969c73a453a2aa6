package main

import (
	"strings"
	"testing"
	"time"

	"baton/master"
	"baton/worker/wire"
)

var testStatus = master.Status{
	Generation: 3, Version: "v2", SupervisorPID: 100, MasterPID: 207, Supervisor: "v1", WorkersWanted: 5,
	WorkersConfig: 2, State: "serving",
	Workers: []master.WorkerStatus{
		{Generation: 3, Slot: 0, PID: 210, State: "serving", Age: 12.3, Requests: 123456, Connections: 17, Active: 2},
		{Generation: 3, Slot: 1, PID: 211, State: "starting", Age: 0.2, Silent: true},
		{Generation: 2, Slot: 0, PID: 150, State: "draining", Age: 90061, Requests: 9, Connections: 1},
	},
	Listeners: []master.ListenerStatus{
		{Name: "web", Address: "127.0.0.1:8080"}, {Name: "[::1]:81", Address: "[::1]:81"},
	},
	LastReload: master.ReloadStatus{
		ID: 4, Error: `/site.toml:1:1: unknown key "x"`,
	},
	Warnings: []string{
		"the supervisor stays v1: dry run failed",
	}, CutRequests: 1, CutConnections: 2, Crashes: 12, Hung: 1, Recycled: 3,
	Crashing: []master.CrashingSlot{
		{Slot: 2, Crashes: 8, Within: 6.4, Last: "exit status 3", Looping: true, Empty: true, NextStart: 3.21},
		{Slot: 1, Crashes: 4, Within: 1.5, Last: "signal killed", Looping: true},
	},
}

const testStatusText = `generation   3, serving
version      v2 (supervisor v1)
supervisor   pid 100, up 1h01m
master       pid 207
workers      5 (config 2)
last reload  failed, 1m05s ago: /site.toml:1:1: unknown key "x"
listens      127.0.0.1:8080 (web)
listens      [::1]:81
cut          1 request, 2 connections
crashes      12
hung         1 worker
recycled     3 workers
warning      the supervisor stays v1: dry run failed

  generation  slot  pid     state     age  requests  open  active
           3     2    -  starts in 3.2s    -         -     -       -
           3     0  210   serving     12s    123456    17       2
           3     1  211  starting    0.2s         ?     ?       ?
           2     0  150  draining  1d01h         9     1       0
`

func TestWriteStatus(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := testStatus
	s.Started, s.LastReload.At = now.Add(-61*time.Minute), now.Add(-65*time.Second)
	var out strings.Builder
	writeStatus(&out, s, now)
	if squeeze(out.String()) != squeeze(testStatusText) {
		t.Errorf("%s\nwant\n%s", out.String(), testStatusText)
	}
	columns := map[int]bool{} // where the lines of the table end
	_, table, _ := strings.Cut(out.String(), "\n\n")
	for _, l := range strings.Split(strings.TrimRight(table, "\n"), "\n") {
		columns[len(l)] = true
	}
	if len(columns) != 1 {
		t.Errorf("the table is not straight:\n%s", table)
	}
}

// TestWriteExits: whose program has died, what its last words were, and when it starts again.
func TestWriteExits(t *testing.T) {
	exit := func(ago, next float64, how, line string) *wire.ProgramExit {
		return &wire.ProgramExit{Program: "web", How: how, Lines: []string{line}, Ago: ago, NextStart: next}
	}
	worker := func(slot, pid int, e *wire.ProgramExit) master.WorkerStatus {
		w := master.WorkerStatus{Slot: slot, State: "serving"}
		w.Program, w.ProgramPID, w.ProgramExits, w.ProgramExit = "web", pid, int64(slot), e
		return w
	}
	s := master.Status{Workers: []master.WorkerStatus{
		worker(0, 100, nil), worker(1, 101, exit(30, 0, "killed by SIGSEGV", "long ago")),
		worker(2, 0, exit(0.2, 1.6, "exited with status 3 before it was ready", "Error: no routes")),
		worker(3, 0, exit(3, 0, "exited with status 4", "before")),
	}}
	var out strings.Builder
	writeStatus(&out, s, time.Now())
	_, got, _ := strings.Cut(out.String(), "last reload  none yet\n")
	const want = `exit program web, slot 1: killed by SIGSEGV, 30s ago (1 exit)
exit program web, slot 2: exited with status 3 before it was ready, 0.2s ago (2 exits)
exit program web, slot 3: exited with status 4, 3.0s ago (3 exits)
| Error: no routes

generation slot pid state age requests open active program
0 0 0 serving 0.0s 0 0 0 web (pid 100)
0 1 0 serving 0.0s 0 0 0 web (pid 101)
0 2 0 serving 0.0s 0 0 0 web (starts in 1.6s)
0 3 0 serving 0.0s 0 0 0 web (starting)
`
	if squeeze(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// squeeze makes every run of blanks one blank: how wide the columns are is tabwriter's business.
func squeeze(s string) string {
	var lines []string
	for _, l := range strings.Split(s, "\n") {
		lines = append(lines, strings.Join(strings.Fields(l), " "))
	}
	return strings.Join(lines, "\n")
}

func TestReloadText(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		r    master.ReloadStatus
		want string
	}{
		{master.ReloadStatus{OK: true}, "none yet"},
		{master.ReloadStatus{OK: true, At: now.Add(-2 * time.Second)}, "ok, 2.0s ago"},
		{master.ReloadStatus{Error: "why", At: now.Add(-26 * time.Hour)}, "failed, 1d02h ago: why"},
	} {
		if got := reloadText(tt.r, now); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// What a newer master says, and this program does not know, is passed on.
func TestStatusJSON(t *testing.T) {
	f := newFake(t)
	f.script("GET /status", say(`{"generation":3,"new_field":[1]}`+"\n"))
	expect(t, []string{"status", "--json", "--control", f.path}, exitOK,
		"{\n  \"generation\": 3,\n  \"new_field\": [\n    1\n  ]\n}\n", "")
	code, out, _ := baton("status", "--control", f.path)
	if code != exitOK || !strings.HasPrefix(out, "generation   3") {
		t.Errorf("%d %s", code, out)
	}
}
