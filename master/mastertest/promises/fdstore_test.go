package promises_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// TestFDStore: where systemd offers to keep descriptors, a restart of the whole service loses no connection, however it
// comes about: what connects while nobody is there is served by the next one.
func TestFDStore(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *mastertest.Baton){
		"stop": func(_ *testing.T, b *mastertest.Baton) { b.Stop() },
		"the supervisor is killed": func(_ *testing.T, b *mastertest.Baton) {
			b.Kill(b.PID())
			b.WantGone()
		},
		"everybody is killed": func(t *testing.T, b *mastertest.Baton) {
			tree := b.Tree()
			b.Kill(b.PID())
			for _, p := range tree {
				_ = unix.Kill(p.PID, unix.SIGKILL) // some may have noticed, and ended
			}
			mastertest.Await(t, mastertest.Text("the end of everybody"), func() bool { return len(b.Tree()) == 0 })
			_ = unix.Unlink(b.Path("baton.sock")) // nobody was left to do that
			b.WantGone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sd := mastertest.NewSystemd(t, false)
			path := shortDir(t) + "/web.sock"
			s := unwatchedSite(t)
			s.listen = append(s.listen, "unix:"+path)
			udp := mastertest.FreePort(t)
			config := strings.Replace(s.String(), "[[route]]",
				fmt.Sprintf("[[listen]]\naddress = %q\ntransport = \"udp\"\nprocess = \"echo\"\n[[route]]", udp), 1)
			rounds := 2
			if name == "stop" {
				rounds = 3 // the second restart is where others fail
			}
			for round := range rounds {
				var waiting []client
				if round > 0 {
					waiting = []client{queue(t, "tcp", s.listen[0]), queue(t, "unix", path)}
				}
				b := mastertest.Start(t, sd.Service(mastertest.Options{Config: config}))
				for _, c := range waiting {
					c.wantServed(t, "one")
				}
				if st := b.Status(); len(st.Warnings) > 0 || len(st.Listeners) != 3 {
					t.Errorf("round %d: %+v", round, st)
				}
				wantEcho(t, udp)
				wantStored(t, sd, "baton/list", "baton/tcp/"+strings.ReplaceAll(s.listen[0], ":", "-"), "baton/udp/",
					"baton/unix/")
				sd.Reload(b)
				wantStored(t, sd, "baton/list", "baton/tcp/", "baton/udp/", "baton/unix/")
				b.AwaitSettled()
				end(t, b)
				if !mastertest.Exists(path) {
					t.Error("the path of a stored socket was removed")
				}
			}
		})
	}
}

// wantStored: these are the beginnings of the names of what systemd keeps, each once.
func wantStored(tb testing.TB, sd *mastertest.Systemd, want ...string) {
	tb.Helper()
	var names []string
	mastertest.Await(tb, func() string { return fmt.Sprintf("%q in systemd's store, not %q", want, names) },
		func() bool {
			names = sd.Stored()
			return slices.EqualFunc(names, want, strings.HasPrefix)
		})
}

// TestFDStoreFollows: sockets that come and go do so in systemd's store as well, those of the slots too; and what has
// changed between two lives is settled at the next start.
func TestFDStoreFollows(t *testing.T) {
	t.Parallel()
	sd := mastertest.NewSystemd(t, true)
	one, two := unwatchedSite(t), unwatchedSite(t)
	start := func(s site) *mastertest.Baton {
		return mastertest.Start(t, sd.Service(mastertest.Options{Config: s.String()}))
	}
	stored := func(s site, slots ...string) []string {
		var names []string
		for _, slot := range slots {
			names = append(names, "baton/tcp/"+strings.ReplaceAll(s.listen[0], ":", "-")+slot)
		}
		return append([]string{"baton/list"}, names...)
	}
	b := start(one)
	wantStored(t, sd, stored(one, "")...)
	both := one
	both.listen = []string{one.listen[0], two.listen[0]}
	b.WriteConfig(both.String())
	b.Reload()
	wantStored(t, sd, slices.Sorted(slices.Values(append(stored(one, ""), stored(two, "")[1])))...)
	two.socket = "reuse_port = true"
	b.WriteConfig(two.String())
	b.Reload("--wait")
	wantStored(t, sd, stored(two, "", "/0", "/1")...) // the one without a slot serves on
	b.CLI("resize", "3")
	wantStored(t, sd, stored(two, "", "/0", "/1", "/2")...)
	b.Stop()

	waiting := make([]client, 16)
	for i := range waiting {
		waiting[i] = queue(t, "tcp", two.listen[0])
	}
	two.workers = 1
	b = start(two)
	for _, c := range waiting {
		c.wantServed(t, "one")
	}
	b.Stop()

	b = start(one) // at an address that the last one had not
	wantStored(t, sd, stored(one, "")...)
	b.Stop()
	if err := mastertest.Bindable(two.listen[0]); err != nil {
		t.Errorf("an address that has left the configuration is kept: %v", err)
	}
}

// TestFDStoreOfASocketUnit: systemd has those sockets anyway.
func TestFDStoreOfASocketUnit(t *testing.T) {
	t.Parallel()
	sd := mastertest.NewSystemd(t, true)
	s := unwatchedSite(t)
	f, address := unitSocket(t, "tcp", "", "web")
	s.listen = []string{address, mastertest.FreePort(t)}
	own := "baton/tcp/" + strings.ReplaceAll(s.listen[1], ":", "-")
	for range 2 {
		b := mastertest.Start(t, sd.Service(mastertest.Options{Config: s.String()}, f))
		wantStored(t, sd, "baton/list", own)
		sd.Reload(b)
		wantStored(t, sd, "baton/list", own)
		b.Stop()
	}
}
