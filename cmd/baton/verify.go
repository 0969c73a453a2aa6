package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"baton/master"
)

// verifier looks for what is wrong in a file whose keys are known and of the right types. Paths are absolute already.
type verifier struct {
	*File
	x     *index
	found mistakes
}

func (v *verifier) verify() {
	v.numbers()
	v.durations()
	v.oneOf("log_format", v.LogFormat, "text", "json")
	v.user()
	v.listens()
	v.routes()
}

// wrong notes a mistake at the value of a path.
func (v *verifier) wrong(path, hint, format string, args ...any) {
	v.found = append(v.found, v.x.wrong(path, fmt.Sprintf(format, args...), hint))
}

func (v *verifier) numbers() {
	if n, ok := v.Workers.(int64); ok && n < 1 {
		v.wrong("workers", `"auto" takes the CPUs that baton may use`, "workers: %d, want at least 1", n)
	} else if n > master.MaxWorkers {
		v.wrong("workers", "", "workers: %d, want at most %d", n, master.MaxWorkers)
	}
	for _, n := range []struct {
		path        string
		is, atLeast int
	}{
		{"worker_cpus", v.WorkerCPUs, 0},
		{"max_generations", v.MaxGenerations, 1},
		{"max_requests", v.MaxRequests, 0},
		{"max_memory", v.MaxMemory, 0},
		{"max_connections", v.MaxConnections, 0},
		{"http.max_header_size", v.HTTP.MaxHeaderSize, 1},
	} {
		if n.is < n.atLeast {
			v.wrong(n.path, "", "%s: %d, want at least %d", n.path, n.is, n.atLeast)
		}
	}
}

func (v *verifier) durations() {
	for _, d := range []struct {
		path string
		is   duration
		zero bool // is a value
	}{
		{"drain_timeout", v.DrainTimeout, false},
		{"stop_timeout", v.StopTimeout, false},
		{"ready_timeout", v.ReadyTimeout, false},
		{"hang_timeout", v.HangTimeout, true},
		{"max_age", v.MaxAge, true},
		{"http.receive_timeout", v.HTTP.ReceiveTimeout, false},
		{"http.idle_timeout", v.HTTP.IdleTimeout, false},
		{"http.body_timeout", v.HTTP.BodyTimeout, true},
		{"http.send_timeout", v.HTTP.SendTimeout, true},
		{"http.upstream_timeout", v.HTTP.UpstreamTimeout, true},
	} {
		if d.is < 0 || d.is == 0 && !d.zero {
			v.wrong(d.path, "", "%s: %s, want more than 0s", d.path, d.is)
		}
	}
	if least := duration(time.Second); v.HangTimeout > 0 && v.HangTimeout < least {
		v.wrong("hang_timeout", "a machine that is busy for so long would look like a hang", "hang_timeout: %s, want at least %s", v.HangTimeout, least)
	}
}

// oneOf checks a word; "" is the default.
func (v *verifier) oneOf(path, word string, known ...string) bool {
	if word == "" || slices.Contains(known, word) {
		return true
	}
	hint := didYouMean(word, known)
	if hint == "" {
		hint = "there are " + strings.Join(known, ", ")
	}
	key := path[strings.LastIndexByte(path, '.')+1:]
	v.wrong(path, hint, "%s: there is no %q", key, word)
	return false
}

// user looks user and group up, here and nowhere else.
func (v *verifier) user() {
	if v.User == "" && v.Group != "" {
		v.wrong("group", "it goes with a user", "group: there is no user")
	}
	if v.User == "" {
		return
	}
	u, err := master.LookupUser(v.User, v.Group)
	var le *master.LookupError
	switch {
	case errors.As(err, &le) && le.Group:
		v.wrong("group", "", "%v", err)
	case err != nil:
		v.wrong("user", "", "%v", err)
	default:
		v.runAs = u
	}
}

// twice reports the second of two equal values. seen maps them to the path of the first.
func (v *verifier) twice(seen map[string]string, value, path, what string) {
	first, ok := seen[value]
	if !ok {
		seen[value] = path
		return
	}
	v.wrong(path, "", "%s: the same as in line %d", what, v.x.line(first))
}
