package config

import (
	"errors"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"baton/master"
)

func everything(t testing.TB) []byte {
	t.Helper()
	doc, err := os.ReadFile("../../testdata/everything.toml")
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEveryKey(t *testing.T) {
	f, _, err := Parse("site.toml", everything(t), "/srv/..")
	if err != nil {
		t.Fatal(err)
	}
	no, empty := false, ""
	want := File{
		Workers: int64(3), WorkerCPUs: 2, DrainTimeout: Duration(time.Minute), StopTimeout: Duration(2 * time.Second),
		ReadyTimeout: Duration(3 * time.Second), MaxGenerations: 4,
		MaxRequests: 1000, MaxAge: Duration(24 * time.Hour), MaxMemory: 1e9, MaxConnections: 700,
		HangTimeout: Duration(30 * time.Second),
		Control:     "/run/c.sock", PIDFile: "/tmp/baton.pid",
		LogFile: "/log", LogFormat: "json", LogLevel: "warn", User: "4711", Group: "4712",
		runAs: &master.User{UID: 4711, GID: 4712, Groups: []int{4712}, Name: "4711"},
		HTTP: HTTP{
			ReceiveTimeout: Duration(500 * time.Millisecond), IdleTimeout: Duration(30 * time.Second),
			BodyTimeout: Duration(31 * time.Second), SendTimeout: 0, UpstreamTimeout: Duration(33 * time.Second),
			TrustedProxies: []string{"10.0.0.0/8", "unix:"},
			MaxHeaderSize:  1000,
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
			{Path: "/r", Respond: &empty, Status: 503, Delay: Duration(time.Second)},
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
		f, _, err := Parse("x", []byte(doc), "/")
		if err != nil {
			t.Errorf("%s\n%s", doc, err)
			continue
		}
		if f.HTTP.MaxHeaderSize != 9 || len(f.Listen) != 1 || f.Listen[0].Address != "127.0.0.1:80" ||
			f.HTTP.IdleTimeout != Defaults().HTTP.IdleTimeout {
			t.Errorf("%s\n%+v", doc, f)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(string(everything(f)))
	golden, err := os.ReadFile("../../testdata/mistakes.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range strings.Split(string(golden), "== ")[1:] {
		_, rest, _ := strings.Cut(c, "\n")
		doc, _, _ := strings.Cut(rest, "=>\n")
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		_, _, err := Parse("x", []byte(doc), "/")
		if err != nil && (err.Error() == "") {
			t.Error("an error without words")
		}
		var all UsageErrors
		if one := (*UsageError)(nil); errors.As(err, &one) {
			all = UsageErrors{First: []*UsageError{one}}
		}
		_ = errors.As(err, &all)
		lines := strings.Split(doc, "\n")
		for _, m := range all.First { // 0: the whole file
			if m.File != "x" || m.Line < 0 || m.Line > len(lines) ||
				m.Line > 0 && (m.Column < 1 || m.Column > len(lines[m.Line-1])+1) {
				t.Errorf("%q: %d:%d of %d lines: %s", doc, m.Line, m.Column, len(lines), m.What)
			}
		}
	})
}

func TestNearest(t *testing.T) {
	known := []string{"workers", "watch", "control", "user", "log_file"}
	for typed, want := range map[string]string{
		"wrokers": "workers", "worker": "workers", "watsh": "watch", "contorl": "control", "usr": "user",
		"logfile": "log_file", "nothing": "", "": "",
	} {
		if got := nearest(typed, known); got != want {
			t.Errorf("%s: %q, want %q", typed, got, want)
		}
	}
}

// TestReference: reference.toml has every key, and its examples, which are comments, are valid.
func TestReference(t *testing.T) {
	commented := regexp.MustCompile(`(?m)^# (\[|[a-z_]+ = )`)
	all := commented.ReplaceAll(reference, []byte("$1"))
	x, err := newIndex("reference.toml", all)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.errors(checkKeys(x)); err != nil {
		t.Error(err)
	}
	has := map[string]bool{}
	for _, e := range x.entries {
		has[e.field] = true
	}
	keys, _ := schema()
	for _, k := range keys {
		if !has[k.name] {
			t.Errorf("nothing about %s", k.name)
		}
	}
	if x, err = newIndex("reference.toml", reference); err != nil {
		t.Fatal(err)
	}
	f := Defaults()
	v := verifier{File: &f, x: x}
	if v.verify(); len(v.found) > 0 {
		t.Errorf("the defaults: %v", v.found)
	}
}
