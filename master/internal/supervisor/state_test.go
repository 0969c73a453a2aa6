package supervisor

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/worker/rawfd"
)

// notCarried are the fields of a supervisor that a state does not have, and why. Whoever adds a field to the supervisor either
// carries it, or says here why it may begin anew.
var notCarried = map[string]string{
	"opts": "the new binary's", "log": "of the registry", "sink": "of the registry", "pid": "the same", "args": "the same",
	"packets": "no reader runs", "signals": "caught anew", "doorPaused": "resumed", "doorBroken": "not at rest", "timer": "none is set at rest", "dl": "none is set at rest",
	"old": "not at rest", "starting": "not at rest", "attempt": "not at rest", "stopping": "not at rest", "killing": "not at rest",
	"leaving": "they are reaped by then", "orphansTerminated": "at a stop", "dead": "empty at rest", "control": "of the registry", "calls": "nobody calls",
	"children": "caught anew", "questions": "answered at rest", "statuses": "answered at rest", "lastQuery": "no status is asked for",
	"problems": "found anew", "moved": "long ago at rest", "resizes": "none at rest", "reopen": "not at rest", "firstSignal": "at a stop",
	"exit": "0 unless stopping", "follow": "done",
	"systemd": "of the environment, and of the registry",
}

// restedSupervisor is a supervisor at rest with something in every field that is carried.
func restedSupervisor(t *testing.T) (*supervisor, actor) {
	t.Helper()
	sv, a := serving(t)
	a.says(message.Preparing{ReadyTimeout: 1, StopTimeout: 2, DrainTimeout: 3})
	ours, theirs := talk(t)
	sv.door = ours
	sv.doorFD, _ = theirs.FD()
	tty := hold(t)
	sv.tty = &terminal{fd: tty.fd}
	sv.tty.gone.Store(5)
	sv.dir, sv.live = "/home/you\xff", 1
	sv.attempts, sv.count, sv.served = 7, 9, 9
	sv.resizeSeq, sv.forgotten = 4, 3
	sv.backoff.Failures, sv.deaths, sv.lastDeath, sv.lost, sv.restarts = 2, 3, "killed", 77, 8
	sv.pace = pace{asked: []time.Time{time.Unix(0, 11), time.Unix(0, 12)}, started: time.Unix(0, 13)}
	sv.size = 6
	sv.masterSince, sv.started = time.Unix(0, 14), time.Unix(0, 15)
	sv.lastTimeouts = message.Preparing{StopTimeout: 5}
	sv.results = []result{{Seen: 9, OK: true, Generation: 1, Drained: true, CutRequests: 2}}
	sv.registry.put("listen/a\xff", entry{fd: hold(t).fd, data: "x\xff", unlink: made(t, path(t, "sock\xff"))}) // paths are bytes
	sv.registry.put("count", entry{fd: -1, data: "{}"})
	return sv, a
}

func roundTrip(t *testing.T, sv *supervisor) *state {
	t.Helper()
	st, err := sv.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := st.encode()
	if err != nil {
		t.Fatal(err)
	}
	if st, err = parseState(b); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStateCarriesTheSupervisor(t *testing.T) {
	t.Parallel()
	sv, a := restedSupervisor(t)
	st := roundTrip(t, sv)
	// As after an execve, but in the same process: descriptors of its own.
	for _, fd := range []*int{&st.DoorOurs, &st.Master.FD} {
		*fd, _ = rawfd.Dup(*fd)
	}
	var next supervisor
	next.registry, next.backoff = registry{}, restartBackoff
	if err := next.restore(st); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = next.door.Close(), next.current.conn.Close() }()
	if !reflect.DeepEqual(sv.registry, next.registry) {
		t.Errorf("store %v, want %v", next.registry, sv.registry)
	}
	if next.tty.fd != sv.tty.fd || next.tty.gone.Load() != 5 {
		t.Errorf("terminal %+v", next.tty)
	}
	s, was := next.current, sv.current
	if s.pid != was.pid || s.phase != was.phase || s.timeouts != was.timeouts {
		t.Errorf("master %+v, want %+v", s, was)
	}
	_ = s.conn.Post(message.Reopen{})
	a.hears(&message.Reopen{})

	carried := reflect.TypeFor[supervisor]()
	for i := range carried.NumField() {
		name := carried.Field(i).Name
		field := reflect.ValueOf(&next).Elem().Field(i)
		switch {
		case notCarried[name] != "" || name == "registry" || name == "tty" || name == "current" || name == "door":
		case field.IsZero():
			t.Errorf("%s is not carried", name)
		case fmt.Sprint(field) != fmt.Sprint(reflect.ValueOf(sv).Elem().Field(i)):
			t.Errorf("%s: %v, want %v", name, field, reflect.ValueOf(sv).Elem().Field(i))
		}
	}
}

// Every descriptor of the state stays open over an execve, and no other.
func TestStateDescriptors(t *testing.T) {
	t.Parallel()
	sv, _ := restedSupervisor(t)
	st := roundTrip(t, sv)
	fds := st.fds()
	if len(fds) != 5 {
		t.Errorf("%v, want door, door, master, terminal and listener", fds)
	}
	flags := func() (all int) {
		for _, fd := range fds {
			f, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err != nil {
				t.Fatal(err)
			}
			all += f
		}
		return all
	}
	_ = closeOnExec(fds, true)
	var during int
	_ = execKeeping(fds, func() error { during = flags(); return unix.ENOEXEC })
	if during != 0 || flags() != len(fds)*unix.FD_CLOEXEC {
		t.Errorf("close-on-exec of %d during, %d after", during, flags())
	}
}

func TestParseState(t *testing.T) {
	t.Parallel()
	const whole = `"generation":3,"door_ours":5,"door_theirs":6,"master":{"fd":7,"pid":100}`
	for name, tt := range map[string]struct{ text, want string }{
		"whole":                    {`{"version":1,` + whole + `}`, ""},
		"with fields of a newer":   {`{"version":1,"colour":"red",` + whole + `}`, ""},
		"of a newer that says so":  {`{"version":2,"program":"v9",` + whole + `}`, "written by v9 in version 2"},
		"of no version":            {`{` + whole + `}`, "version 0"},
		"no JSON":                  {`x`, "invalid character"},
		"no master":                {`{"version":1,"generation":3,"door_ours":5,"door_theirs":6}`, "not whole"},
		"a descriptor twice":       {`{"version":1,` + whole + `,"store":[{"name":"a","fd":7}]}`, "descriptor 7"},
		"standard input in it":     {`{"version":1,` + whole + `,"store":[{"name":"a","fd":1}]}`, "descriptor 1"},
		"a field of another shape": {`{"version":1,"store":7,` + whole + `}`, "cannot unmarshal"},
	} {
		_, err := parseState([]byte(tt.text))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// What an older supervisor's state lacks is filled.
func TestRestoreOldState(t *testing.T) {
	t.Parallel()
	sv, _ := restedSupervisor(t)
	ours, _ := sv.door.FD()
	master, _ := sv.current.conn.FD()
	ours, _ = rawfd.Dup(ours)
	master, _ = rawfd.Dup(master)
	b, _ := json.Marshal(map[string]any{
		"version": 1, "generation": 3, "door_ours": ours, "door_theirs": sv.doorFD, "master": map[string]int{"fd": master, "pid": 100},
	})
	st, err := parseState(b)
	if err != nil {
		t.Fatal(err)
	}
	next := newSupervisor(t)
	if err := next.restore(st); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = next.door.Close(), next.current.conn.Close() }()
	if !next.atRest() || next.started.IsZero() || next.stopLimit(false) != defaultStop || next.pace.wait(time.Now()) != 0 || next.tty != nil {
		t.Errorf("%+v", next)
	}
}
