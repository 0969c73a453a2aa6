package supervisor

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/master/internal/message"
	"baton/master/internal/systemd"
	"baton/worker/rawfd"
)

// carried and begunAnew are the fields of a supervisor: those that a state has, and those that it has not, and why.
var (
	carried = []string{
		"started", "dir", "tty", "registry", "size", "results", "limiter", "registration", "current", "live", "generation",
		"requests", "served", "attempts", "held", "restarts", "lastTimeouts", "systemd",
	}
	begunAnew = map[string]string{
		"masters": "its fields are", "sv": "itself", "version": "the new binary's", "pid": "the same",
		"args": "the same", "kernel": "the same",
		"log": "of the registry", "sink": "of the registry", "dead": "empty at rest", "front": "answered at rest",
		"stopping": "not at rest", "instances": "none at rest",
		"reexec": "done", "events": "caught anew, and no reader runs", "timer": "none is set at rest", "old": "not at rest",
		"starting": "not at rest", "leaving": "they are reaped by then", "attempt": "not at rest", "attemptBy": "not at rest",
		"oldBy": "not at rest", "moved": "long ago at rest",
	}
)

func TestEveryFieldIsCarriedOrBegunAnew(t *testing.T) {
	t.Parallel()
	for _, in := range []reflect.Type{reflect.TypeFor[supervisor](), reflect.TypeFor[masters]()} {
		for i := range in.NumField() {
			if name := in.Field(i).Name; !slices.Contains(carried, name) && begunAnew[name] == "" {
				t.Errorf("%s is neither carried through an execve, nor is it said why not", name)
			}
		}
	}
}

// restedSupervisor is a supervisor at rest with something in every field that is carried.
func restedSupervisor(t *testing.T) (*supervisor, actor) {
	t.Helper()
	sv, a := serving(t)
	a.says(message.Preparing{ReadyTimeout: 1, StopTimeout: 2, DrainTimeout: 3})
	ours, theirs := talk(t)
	sv.registration.conn = ours
	sv.registration.masters, _ = theirs.FD()
	tty := hold(t)
	sv.tty = &terminal{fd: tty.fd}
	sv.tty.gone.Store(5)
	sv.dir, sv.live = "/home/you\xff", 1
	sv.attempts, sv.requests, sv.served = 7, 9, 9
	sv.held.seq, sv.results.Forgotten = 4, 3
	sv.restarts.backoff.Failures, sv.restarts.Total = 2, 8
	sv.restarts.InARow, sv.restarts.Last, sv.restarts.PID = 3, "killed", 77
	sv.limiter = reloadLimiter{Recorded: []time.Time{time.Unix(0, 11), time.Unix(0, 12)}, Started: time.Unix(0, 13)}
	sv.size = 6
	sv.restarts.Since, sv.started = time.Unix(0, 14), time.Unix(0, 15)
	sv.lastTimeouts = message.Preparing{StopTimeout: 5}
	sv.results.All = []result{{Seen: 9, OK: true, Generation: 1, Drained: true, CutRequests: 2}}
	socket := made(t, path(t, "sock\xff")) // paths are bytes
	sv.registry.put("listen/a\xff", entry{FD: hold(t).fd, Data: "x\xff", Unlink: socket})
	sv.registry.put("count", entry{FD: -1, Data: "{}"})
	return sv, a
}

func roundTrip(t *testing.T, sv *supervisor) *state {
	t.Helper()
	st, err := sv.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if st, err = parseState(st.encode()); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStateCarriesTheSupervisor(t *testing.T) {
	t.Parallel()
	sv, a := restedSupervisor(t)
	st := roundTrip(t, sv)
	fields := reflect.ValueOf(*st)
	for i := range fields.NumField() {
		if name := fields.Type().Field(i).Name; fields.Field(i).IsZero() && name != "SystemdList" {
			t.Errorf("%s is not in the state", name)
		}
	}
	// As after an execve, but in the same process: descriptors of its own.
	for _, fd := range []*int{&st.Registration[0], &st.Master.FD} {
		*fd, _ = rawfd.Dup(*fd)
	}
	next := newSupervisor("v", linux{})
	next.log, next.systemd = sv.log, systemd.Open(systemd.Options{})
	if err := next.restore(st); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = next.registration.conn.Close(), next.current.conn.Close() }()
	again := roundTrip(t, next)
	again.Registration[0], again.Master.FD = st.Registration[0], st.Master.FD // duplicates
	if !reflect.DeepEqual(again, st) {
		t.Errorf("%+v, want %+v", again, st)
	}
	if !reflect.DeepEqual(sv.registry, next.registry) {
		t.Errorf("registry %v, want %v", next.registry, sv.registry)
	}
	if !next.atRest() {
		t.Errorf("not at rest: %+v", next.current)
	}
	_ = next.current.Post(message.Reopen{})
	a.hears(&message.Reopen{})
}

// Every descriptor of the state stays open over an execve, and no other.
func TestStateDescriptors(t *testing.T) {
	t.Parallel()
	sv, _ := restedSupervisor(t)
	st := roundTrip(t, sv)
	fds := st.fds()
	if len(fds) != 5 {
		t.Errorf("%v, want registration, registration, master, terminal and listener", fds)
	}
}

func TestParseState(t *testing.T) {
	t.Parallel()
	const whole = `"generation":3,"registration":[5,6],"master":{"fd":7,"pid":100}`
	for name, tt := range map[string]struct{ text, want string }{
		"whole":                    {`{"version":1,` + whole + `}`, ""},
		"with fields of a newer":   {`{"version":1,"colour":"red",` + whole + `}`, ""},
		"of a newer that says so":  {`{"version":2,"program":"v9",` + whole + `}`, "written by v9 in version 2"},
		"of no version":            {`{` + whole + `}`, "version 0"},
		"no JSON":                  {`x`, "invalid character"},
		"no master":                {`{"version":1,"generation":3,"registration":[5,6]}`, "not whole"},
		"a descriptor twice":       {`{"version":1,` + whole + `,"registry":{"a":{"fd":7}}}`, "descriptor 7"},
		"standard input in it":     {`{"version":1,` + whole + `,"registry":{"a":{"fd":1}}}`, "descriptor 1"},
		"a field of another shape": {`{"version":1,"registry":7,` + whole + `}`, "cannot unmarshal"},
	} {
		_, err := parseState([]byte(tt.text))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
