package promises_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"baton/master/mastertest"
)

// overlapping is a site on one port: on the loopback, on every IPv4 address, and on every address.
func overlapping(t *testing.T) (s site, ask []string) {
	t.Helper()
	s = unwatchedSite(t)
	_, port, err := net.SplitHostPort(s.listen[0])
	if err != nil {
		t.Fatal(err)
	}
	ask = []string{s.listen[0], "127.0.0.2:" + port}
	s.listen = append(s.listen, "0.0.0.0:"+port)
	if v6, err := net.Listen("tcp", "[::1]:0"); err == nil {
		v6.Close()
		s.listen, ask = append(s.listen, ":"+port), append(ask, "[::1]:"+port)
	}
	return s, ask
}

// wantAllServed asks on every address, and sees that no worker has crashed.
func wantAllServed(t *testing.T, b *mastertest.Baton, addresses []string) {
	t.Helper()
	for _, address := range addresses {
		for range 10 {
			if text, err := b.Get(address, "/text"); err != nil || text != "one" {
				t.Errorf("%s: %q, %v", address, text, err)
			}
		}
	}
	if st := b.AwaitSettled(); st.Crashes != 0 || len(st.Warnings) != 0 {
		t.Errorf("%+v", st)
	}
}

// awaitRestart waits for the master in the place of a killed one.
func awaitRestart(b *mastertest.Baton) {
	b.AwaitStatus("a restarted master",
		func(st mastertest.Status) bool { return st.MasterRestarts == 1 && st.Settled() })
}

// TestAddressesThatOverlap: they are served at a start, after a reload, by a restarted master, and after a reload
// that has brought them; with a socket for each worker, too.
func TestAddressesThatOverlap(t *testing.T) {
	for name, socket := range map[string]string{"one socket": "", "a socket for each worker": "reuse_port = true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, addresses := overlapping(t)
			s.socket = socket
			b := start(t, unwatchedSite(t))
			b.WriteConfig(s.String())
			if r := b.CLI("check", "--config", "site.toml"); r.Code != 0 {
				t.Errorf("baton check: %+v", r)
			}
			b.Reload() // all of them are new
			wantAllServed(t, b, addresses)
			b.Stop()
			b = start(t, s)
			wantAllServed(t, b, addresses)
			b.Reload()
			wantAllServed(t, b, addresses)
			b.Kill(b.Status().MasterPID)
			awaitRestart(b)
			wantAllServed(t, b, addresses)

			idle := connect(t, s.listen[0], 8)
			one := s
			one.listen = s.listen[1:] // what comes to the loopback is served by the wider one
			for _, config := range []site{one, s} {
				b.WriteConfig(config.String())
				b.Reload("--wait")
				wantAllServed(t, b, addresses)
				for i, c := range idle {
					ask(t, c)
					if err := answered(c); err != nil {
						t.Errorf("connection %d: %v", i, err)
					}
				}
			}
		})
	}
}

// TestSameAddressTwice: check, start and reload say so, with both lines.
func TestSameAddressTwice(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	b := start(t, s)
	_, port, _ := net.SplitHostPort(s.listen[0])
	for name, more := range map[string]string{
		"a name": "localhost:" + port, "mapped": "[::ffff:127.0.0.1]:" + port,
	} {
		two := s
		two.listen = append(two.listen[:1:1], more)
		b.WriteConfig(two.String())
		text := fmt.Sprintf("address %s is %s, the same as that of listener %s (line ", more, s.listen[0], s.listen[0])
		for _, args := range []string{"check --config site.toml", "run --config site.toml --control other.sock"} {
			if r := b.CLI(strings.Fields(args)...); r.Code != 100 || !strings.Contains(r.Stderr, text) {
				t.Errorf("%s: baton %s: %+v", name, args, r)
			}
		}
		if r := b.CLI("reload"); r.Code != 1 || !strings.Contains(r.Stderr, text) {
			t.Errorf("%s: baton reload: %+v", name, r)
		}
	}
	wantAllServed(t, b, s.listen)
	_ = os.Remove(b.Path("other.sock"))
}

// TestPortTakenAfterBind: somebody else listens on a new address in the moment between bind and listen. That costs this
// listener alone, the reload says so, and it is served as soon as the other one has gone; a worker that was started
// meanwhile, one of a new slot, and one of a restarted master, wait as well.
func TestPortTakenAfterBind(t *testing.T) {
	for name, socket := range map[string]string{"one socket": "", "a socket for each worker": "reuse_port = true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steps := mastertest.NewFailpoints(t)
			s := unwatchedSite(t)
			s.socket = socket
			good := s.listen
			b := mastertest.Start(t, mastertest.Options{
				Config: s.String(), Env: []string{steps.Env()},
				Binary: mastertest.Build(t, mastertest.BuildOptions{Tags: []string{"batonsteps"}}),
			})
			bad := mastertest.FreePort(t)
			s.listen = append(s.listen[:1:1], bad)
			b.WriteConfig(s.String())
			ready := steps.HoldAt("ready")
			result := b.StartCLI("reload")
			held := ready()
			foreign, err := net.Listen("tcp", bad)
			if err != nil {
				t.Fatal(err)
			}
			defer foreign.Close()
			held.Release()
			r := result()
			if r.Code != 0 || !strings.Contains(r.Stderr, "warning: not on "+bad) {
				t.Errorf("baton reload: %+v", r)
			}
			serveOthers := func() {
				t.Helper()
				for range 10 {
					if text, err := b.Get(good[0], "/text"); err != nil || text != "one" {
						t.Errorf("the good listener: %q, %v", text, err)
					}
				}
				st := b.AwaitSettled()
				if len(st.Warnings) != 1 || st.Listeners[1].State != "failed" || st.Listeners[1].Error == "" {
					t.Errorf("%+v", st)
				}
			}
			serveOthers()
			resize(t, b, b.Status().WorkersWanted+2)
			serveOthers()
			b.Kill(b.Status().Workers[0].PID)
			b.AwaitStatus("the crash", func(st mastertest.Status) bool { return st.Crashes == 1 && st.Settled() })
			serveOthers()
			b.Kill(b.Status().MasterPID)
			awaitRestart(b)
			serveOthers()

			foreign.Close()
			st := b.AwaitStatus("the listener",
				func(st mastertest.Status) bool { return st.Listeners[1].State == "listening" })
			if len(st.Warnings) != 0 || st.Crashes != 1 {
				t.Errorf("%+v", st)
			}
			for range 20 {
				if text, err := b.Get(bad, "/text"); err != nil || text != "one" {
					t.Errorf("the listener that has come back: %q, %v", text, err)
				}
			}
			b.Reload("--wait")
			wantText(t, b, bad, "one")
		})
	}
}

// TestManyListeners: more than a message has room for, also for the worker that takes the place of a dead one, and
// for a reload that adds some and takes others away.
func TestManyListeners(t *testing.T) {
	t.Parallel()
	s := unwatchedSite(t)
	s.workers = 1
	_, port, _ := net.SplitHostPort(s.listen[0])
	for i := range 300 {
		s.listen = append(s.listen, fmt.Sprintf("127.3.%d.%d:%s", i/200, 1+i%200, port))
	}
	for i := range 20 {
		s.listen = append(s.listen, fmt.Sprintf("unix:%s%d.sock", strings.Repeat("./", 900), i))
	}
	b := start(t, s)
	some := []string{s.listen[0], s.listen[150], s.listen[300]}
	wantAllServed(t, b, some)
	b.Kill(b.Status().Workers[0].PID)
	b.AwaitStatus("the crash", func(st mastertest.Status) bool { return st.Crashes == 1 && st.Settled() })
	gone := s.listen[10]
	s.listen = append(s.listen[:10:10], s.listen[11:]...)
	b.WriteConfig(s.String())
	b.Reload("--wait")
	for _, address := range some {
		wantText(t, b, address, "one")
	}
	mastertest.Await(t, mastertest.Text("the address to be free"),
		func() bool { return mastertest.Bindable(gone) == nil })
	for i := range 300 {
		s.listen = append(s.listen, fmt.Sprintf("127.4.%d.%d:%s", i/200, 1+i%200, port))
	}
	b.WriteConfig(s.String())
	for _, command := range []string{"check --config site.toml", "reload"} {
		if r := b.CLI(strings.Fields(command)...); r.Code == 0 || !strings.Contains(r.Stderr, "want at most 512") {
			t.Errorf("baton %s: %+v", command, r)
		}
	}
}
