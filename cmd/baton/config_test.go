package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"baton/master"
)

var update = flag.Bool("update", false, "write what comes out to testdata/mistakes.txt")

const mistakesFile = "testdata/mistakes.txt"

// TestMistakes reads cases of the form "== name, config, =>, what a person reads".
func TestMistakes(t *testing.T) {
	golden, err := os.ReadFile(mistakesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "site.toml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, c := range strings.Split(string(golden), "== ")[1:] {
		name, rest, _ := strings.Cut(c, "\n")
		doc, want, _ := strings.Cut(rest, "=>\n")
		_, _, err := parseFile("site.toml", []byte(doc), dir)
		if err == nil {
			t.Errorf("%s: no mistake", name)
			continue
		}
		got := strings.ReplaceAll(explain(err), dir, "DIR") + "\n"
		if got != want && !*update {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
		}
		if code := exitCode(err); code != exitUser {
			t.Errorf("%s: exit code %d", name, code)
		}
		if strings.Contains(reason(err), "\n") {
			t.Errorf("%s: more than one line: %s", name, reason(err))
		}
		_, _ = fmt.Fprintf(&out, "== %s\n%s=>\n%s", name, doc, got)
	}
	if *update {
		if err := os.WriteFile(mistakesFile, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// everything sets every key that is supported, to something else than its default.
const everything = `
workers = 3
worker_cpus = 2
drain_timeout = "1m"
stop_timeout = "2s"
ready_timeout = "3s"
max_generations = 4
max_requests = 1000
max_age = "24h"
max_memory = 1_000_000_000
max_connections = 700
hang_timeout = "30s"
control = "run/c.sock"
pid_file = "/run/pid"
log_file = "log"
log_format = "json"
watch = false
user = "4711"
group = "4712"

[http]
receive_timeout = "500ms"
idle_timeout = "30s"
body_timeout = "31s"
send_timeout = "0s"
upstream_timeout = "33s"
max_header_size = 1000

[[listen]]
address = "127.0.0.1:80"
transport = "tcp"
process = "http"
reuse_port = false
handover = false

[[listen]]
name = "local"
address = "unix:web.sock"

[[listen]]
address = "[::1]:0"

[[listen]]
name = "second"
address = "[::1]:0"

[[route]]
path = "/"
static = "."

[[route]]
path = "/p"
proxy = "http://127.0.0.1:9000/base"

[[route]]
path = "/r"
respond = ""
status = 503
delay = "1s"
`

func TestEveryKey(t *testing.T) {
	f, _, err := parseFile("site.toml", []byte(everything), "/srv/..")
	if err != nil {
		t.Fatal(explain(err))
	}
	no, empty := false, ""
	want := File{
		Workers: int64(3), WorkerCPUs: 2, DrainTimeout: duration(time.Minute), StopTimeout: duration(2 * time.Second),
		ReadyTimeout: duration(3 * time.Second), MaxGenerations: 4,
		MaxRequests: 1000, MaxAge: duration(24 * time.Hour), MaxMemory: 1e9, MaxConnections: 700, HangTimeout: duration(30 * time.Second),
		Control: "/run/c.sock", PIDFile: "/run/pid",
		LogFile: "/log", LogFormat: "json", User: "4711", Group: "4712",
		runAs: &master.User{UID: 4711, GID: 4712, Groups: []int{4712}, Name: "4711"},
		HTTP: HTTP{
			ReceiveTimeout: duration(500 * time.Millisecond), IdleTimeout: duration(30 * time.Second),
			BodyTimeout: duration(31 * time.Second), SendTimeout: 0, UpstreamTimeout: duration(33 * time.Second), MaxHeaderSize: 1000,
		},
		Listen: []Listen{
			{Name: "127.0.0.1:80", Address: "127.0.0.1:80", Transport: "tcp", Process: "http", Handover: &no},
			{Name: "local", Address: "unix:/web.sock"},
			{Name: "[::1]:0", Address: "[::1]:0"},
			{Name: "second", Address: "[::1]:0"},
		},
		Routes: []Route{
			{Path: "/", Static: "/"},
			{Path: "/p", Proxy: "http://127.0.0.1:9000/base"},
			{Path: "/r", Respond: &empty, Status: 503, Delay: duration(time.Second)},
		},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("%+v\nwant\n%+v", f, want)
	}
}

// Tables may be written in each of TOML's ways.
func TestOtherSpellings(t *testing.T) {
	for _, doc := range []string{
		"listen = [{ address = \"127.0.0.1:80\" }]\nhttp.max_header_size = 9",
		"http = { max_header_size = 9 }\r\n[[listen]]\r\n\"address\" = '127.0.0.1:80'\r\n",
		"[[listen]]\naddress = '''127.0.0.1:80'''\n[http]\nmax_header_size = 0x9",
	} {
		f, _, err := parseFile("x", []byte(doc), "/")
		if err != nil {
			t.Errorf("%s\n%s", doc, explain(err))
			continue
		}
		if f.HTTP.MaxHeaderSize != 9 || len(f.Listen) != 1 || f.Listen[0].Address != "127.0.0.1:80" || f.HTTP.IdleTimeout != defaults().HTTP.IdleTimeout {
			t.Errorf("%s\n%+v", doc, f)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(everything)
	golden, err := os.ReadFile(mistakesFile)
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range strings.Split(string(golden), "== ")[1:] {
		_, rest, _ := strings.Cut(c, "\n")
		doc, _, _ := strings.Cut(rest, "=>\n")
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		_, _, err := parseFile("x", []byte(doc), "/")
		if err != nil && (explain(err) == "" || exitCode(err) != exitUser) {
			t.Error(explain(err))
		}
		var all mistakes
		if one := (*mistake)(nil); errors.As(err, &one) {
			all = mistakes{one}
		}
		_ = errors.As(err, &all)
		lines := strings.Split(doc, "\n")
		for _, m := range all { // 0: the whole file
			if m.File != "x" || m.Line < 0 || m.Line > len(lines) || m.Line > 0 && (m.Column < 1 || m.Column > len(lines[m.Line-1])+1) {
				t.Errorf("%q: %d:%d of %d lines: %s", doc, m.Line, m.Column, len(lines), m.What)
			}
		}
	})
}
