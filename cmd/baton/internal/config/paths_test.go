package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// TestCheckPaths: no two things have one path if one of them is made by the server.
func TestCheckPaths(t *testing.T) {
	t.Parallel()
	const listen = "[[listen]]\naddress = \"unix:web.sock\"\ntransport = \"tls\"\ntls = { cert = \"c.pem\", key = " +
		"\"k.pem\" }\n"
	for _, tt := range []struct {
		name, doc string
		flag      string // --pid-file
		want      string // position and text; "": all is well
	}{
		{"each its own", "control = \"c\"\npid_file = \"p\"\nlog_file = \"l\"\n" + listen, "", ""},
		{
			"the config file", `pid_file = "./site.toml"`, "",
			"site.toml:1:12: pid_file: DIR/site.toml is the config file as well",
		},
		{
			"log", "control = \"c\"\nlog_file = \"x/../site.toml\"", "",
			"site.toml:2:12: log_file: DIR/site.toml is the config file as well",
		},
		{"control", "control = \"x\"\npid_file = \"x\"", "", "site.toml:2:12: pid_file: DIR/x is control as well"},
		{"log file", "log_file = \"x\"\npid_file = \"x\"", "", "site.toml:1:12: log_file: DIR/x is pid_file as well"},
		{
			"a listener", "pid_file = \"web.sock\"\n" + listen, "",
			"site.toml:1:12: pid_file: DIR/web.sock is a listener as well",
		},
		{
			"control and a listener", "control = \"web.sock\"\n" + listen, "",
			"site.toml:1:11: control: DIR/web.sock is a listener as well",
		},
		{
			"a certificate", "pid_file = \"c.pem\"\n" + listen, "",
			"site.toml:1:12: pid_file: DIR/c.pem is a certificate as well",
		},
		{"a key", "log_file = \"k.pem\"\n" + listen, "", "site.toml:1:12: log_file: DIR/k.pem is a key as well"},
		{"by a flag", "pid_file = \"p\"\ncontrol = \"c\"", "c", "site.toml: pid_file: DIR/c is control as well"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "site.toml")
			if err := os.WriteFile(file, []byte(tt.doc), 0o600); err != nil {
				t.Fatal(err)
			}
			x, err := newIndex("site.toml", []byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			f := Defaults()
			if err := toml.Unmarshal([]byte(tt.doc), &f); err != nil {
				t.Fatal(err)
			}
			f.resolve(x, dir)
			if tt.flag != "" {
				f.PIDFile = filepath.Join(dir, tt.flag)
			}
			err = f.CheckPaths(x, file, func(key string) bool { return tt.flag != "" && key == "pid_file" })
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	f := Defaults()
	f.Control, f.PIDFile = "/x", "/x"
	if err := f.CheckPaths(nil, "", func(string) bool { return false }); fmt.Sprint(err) != "pid_file: /x is "+
		"control as well" {
		t.Errorf("without a file: %v", err)
	}
}
