package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// callOf is a call of a command whose flags are not parsed yet.
func callOf(name string) *call {
	i := slices.IndexFunc(commands(), func(c command) bool { return c.Name == name })
	return newCall(commands()[i], &ui{io.Discard, io.Discard})
}

// loadArgs loads as `baton run args…` does, where doc is the file site.toml unless it is "".
func loadArgs(t *testing.T, doc string, args ...string) (config.File, []string, master.Config, error) {
	t.Helper()
	return loadIn(t, t.TempDir(), doc, args...)
}

// dirWith is a directory with another one in it.
func dirWith(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// loadIn is loadArgs in a directory that is there.
func loadIn(t *testing.T, dir, doc string, args ...string) (config.File, []string, master.Config, error) {
	t.Helper()
	if doc != "" {
		if err := os.WriteFile(filepath.Join(dir, "site.toml"), []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", "site.toml")
	}
	run := callOf("run")
	if err := run.parse(args); err != nil {
		return config.File{}, nil, master.Config{}, err
	}
	l := &loader{run, dir}
	f, warnings, err := l.load("site.toml")
	if err != nil {
		return f, nil, master.Config{}, err
	}
	c, err := l.masterConfig(f)
	if err != nil {
		t.Fatal(err)
	}
	return f, warnings, c, nil
}

func TestFlagsWin(t *testing.T) {
	const one = "workers = 2\n[[listen]]\naddress = \"127.0.0.1:80\"\n[http]\nreceive_timeout = \"7s\"\n"
	for _, tt := range []struct {
		name, config, args string
		workers            any
		address            string
		timeout            time.Duration
		header             int
		warnings           []string
	}{
		{"defaults", "", "", "auto", "127.0.0.1:8080", 2 * time.Second, 8192, nil},
		{
			"all", "", "--host 0.0.0.0 --port 81 --worker 4 --timeout-ms 2500 --max-header-size 99",
			int64(4), "0.0.0.0:81", 2500 * time.Millisecond, 99, nil,
		},
		{"one dash", "", "-host ::1 -port=81 -workers=auto", "auto", "[::1]:81", 2 * time.Second, 8192, nil},
		{"every address", "", "--host=", "auto", ":8080", 2 * time.Second, 8192, nil},
		{"the last one wins", "", "--workers 3 --worker 4", int64(4), "127.0.0.1:8080", 2 * time.Second, 8192, nil},
		{"file", one, "", int64(2), "127.0.0.1:80", 7 * time.Second, 8192, nil},
		{
			"flags hide the file", one, "--port 81 --workers 3 --timeout-ms 1", int64(3), "127.0.0.1:81",
			time.Millisecond, 8192,
			[]string{
				`--port=81 wins over site.toml:3: listen.address = "127.0.0.1:80"`,
				`--workers=3 wins over site.toml:1: workers = 2`,
				`--timeout-ms=1 wins over site.toml:5: http.receive_timeout = "7s"`,
			},
		},
		{
			"flags that say the same", one, "--port 80 --workers 2 --timeout-ms 7000", int64(2), "127.0.0.1:80",
			7 * time.Second, 8192, nil,
		},
	} {
		f, warnings, _, err := loadArgs(t, tt.config, strings.Fields(tt.args)...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if f.Workers != tt.workers || f.Listen[0].Address != tt.address ||
			f.HTTP.ReceiveTimeout.Std() != tt.timeout || f.HTTP.MaxHeaderSize != tt.header {
			t.Errorf("%s: %+v", tt.name, f)
		}
		if !reflect.DeepEqual(warnings, tt.warnings) {
			t.Errorf("%s: %q", tt.name, warnings)
		}
	}
}

func TestFlagMistakes(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--prot 3", "baton: there is no flag --prot\nhint: did you mean --port?"},
		{"--max_header_size 3", "baton: there is no flag --max_header_size\nhint: did you mean --max-header-size?"},
		{"--frobnicate", "baton: there is no flag --frobnicate\nhint: `baton help run` lists them"},
		{"--reload", "baton: there is no flag --reload\nhint: reload is a command: baton reload"},
		{"--port", "baton: --port: needs a value"},
		{"--port http", `baton: --port: "http" is no port: want a number from 0 to 65535`},
		{"--port -1", `baton: --port: "-1" is no port: want a number from 0 to 65535`},
		{"--port 65536", `baton: --port: "65536" is no port: want a number from 0 to 65535`},
		{
			"--host a/b", "baton: --host: \"a/b\" is neither an IP address nor a name\n" +
				"hint: as 127.0.0.1, ::1, or \"\" for every address of the machine",
		},
		{
			"--workers 0",
			"baton: --workers: \"0\": want a number from 1 to 1024, or auto\nhint: auto takes the CPUs that baton " +
				"may use",
		},
		{
			"--worker many",
			"baton: --worker: \"many\": want a number from 1 to 1024, or auto\nhint: auto takes the CPUs that baton " +
				"may use",
		},
		{
			"--timeout-ms 2s",
			"baton: --timeout-ms: \"2s\": want a number of milliseconds from 1 to 31536000000\nhint: as 2000",
		},
		{
			"--timeout-ms 0",
			"baton: --timeout-ms: \"0\": want a number of milliseconds from 1 to 31536000000\nhint: as 2000",
		},
		{
			"--timeout-ms 9223372036854775807",
			"baton: --timeout-ms: \"9223372036854775807\": want a number of milliseconds from 1 to " +
				"31536000000\nhint: as 2000",
		},
		{
			"--max-header-size 0",
			"baton: --max-header-size: \"0\": want a number of bytes from 1 to 16777216\nhint: as 8192",
		},
		{"--watch=maybe", `baton: --watch: "maybe": want true or false`},
		{
			"--config=",
			"baton: --config: want the path of a file\nhint: with no --config at all, a built-in page is served",
		},
		{"site.toml", "baton: run: takes no argument \"site.toml\"\nhint: did you mean --config site.toml?"},
		{"--", "baton: the program after -- is missing\nhint: as baton -- node server.js"},
		{"y -- x", "baton: run: takes no argument \"y\""},
	} {
		_, _, _, err := loadArgs(t, "", strings.Fields(tt.args)...)
		if err == nil || explain(err) != tt.want || exitCode(err) != exitUser {
			t.Errorf("%s:\n%v\nwant:\n%s", tt.args, err, tt.want)
		}
	}
}

func TestFlagsAndFileTogetherMistaken(t *testing.T) {
	const two = "[[listen]]\naddress = \"127.0.0.1:80\"\n[[listen]]\naddress = \"127.0.0.1:81\"\n"
	const socket = "[[listen]]\naddress = \"unix:/web.sock\"\n"
	for _, tt := range []struct{ config, args, want string }{
		{
			two, "--port 9",
			"baton: --port: the config file has 2 [[listen]] tables\nhint: change the config file instead",
		},
		{
			two, "--host ::1",
			"baton: --host: the config file has 2 [[listen]] tables\nhint: change the config file instead",
		},
		{
			socket, "--port 9",
			"baton: --port: the config file listens on unix:/web.sock\nhint: change the config file instead",
		},
	} {
		_, _, _, err := loadArgs(t, tt.config, strings.Fields(tt.args)...)
		if err == nil || explain(err) != tt.want || exitCode(err) != exitUser {
			t.Errorf("%s:\n%v\nwant:\n%s", tt.args, err, tt.want)
		}
	}
}
