package promises_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"baton/master/mastertest"
)

// config is one that check, start and reload have to agree about. In text, ADDRESS is a free one of 127.0.0.1, PORT its
// port.
type config struct {
	name, text string
	good       bool
}

// configs are those about which they once did not, and their neighbours.
var configs = []config{
	{"nothing special", listenAt("ADDRESS"), true},
	{"a wildcard and an address within", listenAt(":PORT") + listenAt("ADDRESS") + listenAt("[::1]:PORT"), true},
	{"the same address in two ways", listenAt("ADDRESS") + listenAt("[::ffff:127.0.0.1]:PORT"), false},
	{"the same name", listenAt("ADDRESS") + "name = \"n\"\n" + listenAt("127.0.0.1:0") + "name = \"n\"\n", false},
	{"a name that nobody has", listenAt("no-such-host.invalid:PORT"), false},
	{"200 listeners", listenAt("ADDRESS") + manyListeners(200), true},
	{"a long name", listenAt("ADDRESS") + "name = \"" + strings.Repeat("n", 70_000) + "\"\n", false},
	{"a socket where a file is", listenAt("ADDRESS") + listenAt("unix:file"), false},
	{"a socket in no directory", listenAt("ADDRESS") + listenAt("unix:none/s"), false},
	{"a log file in no directory", "log_file = \"none/log\"\n" + listenAt("ADDRESS"), false},
	{"a log file that is a directory", "log_file = \".\"\n" + listenAt("ADDRESS"), false},
	{"a PID file in no directory", "pid_file = \"none/pid\"\n" + listenAt("ADDRESS"), false},
	{"a PID file that is another file", "pid_file = \"file\"\n" + listenAt("ADDRESS"), false},
	{"a PID file that is the control socket", "pid_file = \"baton.sock\"\n" + listenAt("ADDRESS"), false},
	{"a log file that is the config", "log_file = \"site.toml\"\n" + listenAt("ADDRESS"), false},
	{"an address that is not here", listenAt("192.0.2.7:PORT"), false},
	{"generations without end", "max_generations = 9223372036854775807\n" + listenAt("ADDRESS"), false},
	{"a time near the end of time", "drain_timeout = \"2562047h\"\n" + listenAt("ADDRESS"), false},
	{
		"the longest times",
		"drain_timeout = \"8760h\"\nstop_timeout = \"8760h\"\nready_timeout = \"1h\"\nmax_age = \"8760h\"\n" +
			"hang_timeout = \"8760h\"\nmax_generations = 1000\nmax_connections = 1073741824\n" +
			"max_requests = 1000000000000\n" +
			"max_memory = 1125899906842624\n[http]\nidle_timeout = \"8760h\"\nbody_timeout = \"8760h\"\n" +
			"max_header_size = 16777216\n" +
			listenAt("ADDRESS"), true,
	},
	{"a byte order mark", "\xef\xbb\xbf" + listenAt("ADDRESS"), true},
	{"many mistakes", strings.Repeat("[[listen]]\naddr = 1\n", 5000), false},
	{"a file as a directory", listenAt("ADDRESS") + "[[route]]\npath = \"/\"\nstatic = \"file\"\n", false},
	{"routes that are the same", listenAt("ADDRESS") +
		"[[route]]\npath = \"/a\"\necho = true\n[[route]]\npath = \"/b/../a/\"\necho = true\n", false},
}

func listenAt(address string) string { return fmt.Sprintf("[[listen]]\naddress = %q\n", address) }

func manyListeners(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(listenAt(fmt.Sprintf("unix:%d.sock", i)))
	}
	return b.String()
}

// at is the text for an address.
func (c config) at(address string) string {
	_, port, _ := net.SplitHostPort(address)
	top := "watch = false\nworkers = 1\n"
	if mark := "\xef\xbb\xbf"; strings.HasPrefix(c.text, mark) {
		top = mark + top
	}
	return strings.NewReplacer("\xef\xbb\xbf", "", "ADDRESS", address, "PORT", port).Replace(top + c.text)
}

// TestCheckStartAndReloadAgree: what check accepts starts, and what starts reloads; what check refuses does neither.
func TestCheckStartAndReloadAgree(t *testing.T) {
	t.Parallel()
	base := config{text: listenAt("ADDRESS")}
	running := mastertest.Start(t, mastertest.Options{Config: base.at(mastertest.FreePort(t))})
	running.WriteFile("file", "precious")
	for _, c := range configs {
		running.WriteConfig(c.at(mastertest.FreePort(t)))
		check, reload := running.CLI("check", "--config", "site.toml"), running.CLI("reload")
		starts, why := c.starts(t)
		if (check.Code == 0) != c.good || (reload.Code == 0) != c.good || starts != c.good {
			t.Errorf("%s: check %d, start %t, reload %d, want good: %t\n%.500s\n%.500s\n%.500s",
				c.name, check.Code, starts, reload.Code, c.good, check.Stderr, why, reload.Stderr)
		}
		if !c.good && check.Code != 100 && check.Code != 111 || reload.Code > 1 {
			t.Errorf("%s: check %d, reload %d", c.name, check.Code, reload.Code)
		}
	}
	if got := running.ReadFile("file"); got != "precious" {
		t.Errorf("%q", got)
	}
	mastertest.Await(t, mastertest.Text("the end of the attempts"), func() bool { return len(running.Tree()) == 3 })
}

// starts starts a baton of its own, and stops it.
func (c config) starts(t *testing.T) (ok bool, why string) {
	b := mastertest.Start(t, mastertest.Options{
		Config: c.at(mastertest.FreePort(t)),
		Files:  map[string]string{"file": "precious"}, NoWait: true,
	})
	mastertest.Await(t, mastertest.Text(c.name+" to start or to fail"), func() bool {
		select {
		case <-b.Exited():
			return true
		default:
			ok = strings.Contains(b.CLI("status").Stdout, "serving")
			return ok
		}
	})
	if ok {
		b.Stop()
	}
	return ok, b.Log()
}
