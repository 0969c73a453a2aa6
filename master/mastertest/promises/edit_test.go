package promises_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/mastertest"
)

// watchDelay is longer than anybody takes to find out that a file has changed.
const watchDelay = 1500 * time.Millisecond

// TestConfigEdits is P9: a file can be edited in any way, one change is one reload, and a touch is none.
func TestConfigEdits(t *testing.T) {
	for name, edit := range map[string]func(t *testing.T, b *mastertest.Baton, old, changed string){
		"in place": func(t *testing.T, b *mastertest.Baton, _, changed string) {
			b.WriteFile("site.toml", changed)
		},
		"in two halves": func(t *testing.T, b *mastertest.Baton, _, changed string) {
			f, err := os.Create(b.Path("site.toml"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cut := strings.Index(changed, "respond") + 3
			write(t, f, changed[:cut])
			sleep(300 * time.Millisecond)
			write(t, f, changed[cut:])
		},
		"by rename": func(_ *testing.T, b *mastertest.Baton, _, changed string) {
			b.WriteConfig(changed)
		},
		"as vim does": func(t *testing.T, b *mastertest.Baton, _, changed string) {
			b.WriteFile("4913", "") // it tries whether it may
			remove(t, b.Path("4913"))
			rename(t, b.Path("site.toml"), b.Path("site.toml~"))
			b.WriteFile("site.toml", changed)
			if err := os.Chmod(b.Path("site.toml"), 0o640); err != nil {
				t.Fatal(err)
			}
			remove(t, b.Path("site.toml~"))
		},
		"deleted and back": func(t *testing.T, b *mastertest.Baton, _, changed string) {
			remove(t, b.Path("site.toml"))
			sleep(300 * time.Millisecond)
			b.WriteFile("site.toml", changed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := watchedSite(t)
			b := start(t, s)
			old := s.String()
			s.text = "two"
			edit(t, b, old, s.String())
			wantText(t, b, s.listen[0], "two")
			wantReloads(t, b, 1)
		})
	}
}

// TestConfigMapSwap: Kubernetes replaces a link to a directory; the name of the file never changes.
func TestConfigMapSwap(t *testing.T) {
	t.Parallel()
	s := watchedSite(t)
	first := s.String()
	s.text = "two"
	b := mastertest.Start(t, mastertest.Options{
		Files: map[string]string{"etc/..v1/site.toml": first, "etc/..v2/site.toml": s.String()},
		Links: map[string]string{"etc/..data": "..v1", "etc/site.toml": "..data/site.toml"},
		Args:  []string{"run", "--config", "etc/site.toml"},
	})
	link := func(version, text string) {
		t.Helper()
		if err := os.Symlink(version, b.Path("etc/..data_tmp")); err != nil {
			t.Fatal(err)
		}
		rename(t, b.Path("etc/..data_tmp"), b.Path("etc/..data"))
		wantText(t, b, s.listen[0], text)
	}
	link("..v2", "two")
	if err := os.RemoveAll(b.Path("etc/..v1")); err != nil { // as it does afterwards
		t.Fatal(err)
	}
	wantReloads(t, b, 1)
	s.text = "three"
	b.WriteFile("etc/..v3/site.toml", s.String())
	link("..v3", "three")
	wantReloads(t, b, 2)
}

// TestTouchIsNoChange: neither do other files in the directory concern us.
func TestTouchIsNoChange(t *testing.T) {
	t.Parallel()
	s := watchedSite(t)
	b := start(t, s)
	now := time.Now()
	if err := os.Chtimes(b.Path("site.toml"), now, now); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(b.Path("site.toml"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.WriteFile("site.toml", s.String()) // the same again
	b.WriteFile("other.toml", "x")
	wantReloads(t, b, 0)
}

// TestBrokenAndMended: a broken file is reported and changes nothing; when it is mended, it counts.
func TestBrokenAndMended(t *testing.T) {
	t.Parallel()
	s := watchedSite(t)
	b := start(t, s)
	b.WriteConfig(s.String() + "colour = 1\n[[")
	st := b.AwaitStatus("the report of a broken file", func(st mastertest.Status) bool { return !st.LastReload.OK })
	if st.Generation != 1 || !strings.Contains(st.LastReload.Error, "site.toml") {
		t.Errorf("%+v", st)
	}
	wantText(t, b, s.listen[0], "one")
	s.text = "two"
	b.WriteConfig(s.String())
	wantText(t, b, s.listen[0], "two")
	wantReloads(t, b, 1)

	// Broken, and then back to what is served already: nothing is to be done, and nothing is wrong any more.
	b.WriteConfig("[[")
	b.AwaitStatus("the report of a broken file", func(st mastertest.Status) bool { return !st.LastReload.OK })
	b.WriteConfig(s.String())
	if st := b.CLI("check", "--config", "site.toml"); st.Code != 0 {
		t.Errorf("baton check: %+v", st)
	}
	sleep(watchDelay)
	wantText(t, b, s.listen[0], "two")
}

// TestWatchOff: --watch=false leaves it to the user.
func TestWatchOff(t *testing.T) {
	t.Parallel()
	s := watchedSite(t)
	b := mastertest.Start(t, mastertest.Options{
		Config: s.String(),
		Args:   []string{"run", "--config", "site.toml", "--watch=false"},
	})
	s.text = "two"
	b.WriteConfig(s.String())
	wantReloads(t, b, 0)
	b.Signal(unix.SIGHUP)
	wantText(t, b, s.listen[0], "two")
}

// TestEveryKeyIsApplied: an edit of the number of workers, a route, an address, each by itself and under load.
func TestEveryKeyIsApplied(t *testing.T) {
	t.Parallel()
	exclusive(t)
	s := watchedSite(t)
	b := start(t, s)
	clients := putLoad(t, s.listen[0], defaultLoad())
	s.workers = 5
	b.WriteConfig(s.String())
	b.AwaitStatus("five workers", func(st mastertest.Status) bool { return st.Settled() && st.WorkersWanted == 5 })
	s.text = "two"
	b.WriteConfig(s.String())
	wantText(t, b, s.listen[0], "two")
	s.listen = append(s.listen, mastertest.FreePort(t))
	b.WriteConfig(s.String())
	wantText(t, b, s.listen[1], "two")
	s.listen, s.workers = s.listen[:1], 1
	b.WriteConfig(s.String())
	b.AwaitStatus("one worker and one address", func(st mastertest.Status) bool {
		return st.Settled() && st.WorkersWanted == 1 && len(st.Listeners) == 1
	})
	wantNoLoss(t, clients)
}

// wantReloads fails the test unless there were that many since the start, and no more follow.
func wantReloads(tb testing.TB, b *mastertest.Baton, n int) {
	tb.Helper()
	sleep(watchDelay)
	if st := b.AwaitSettled(); st.Generation != 1+n || !st.LastReload.OK {
		tb.Errorf("%d reloads, want %d; the last one: %+v", st.Generation-1, n, st.LastReload)
	}
}

func write(tb testing.TB, f *os.File, text string) {
	tb.Helper()
	if _, err := f.WriteString(text); err != nil {
		tb.Fatal(err)
	}
}

func rename(tb testing.TB, from, to string) {
	tb.Helper()
	if err := os.Rename(from, to); err != nil {
		tb.Fatal(err)
	}
}

func remove(tb testing.TB, path string) {
	tb.Helper()
	if err := os.Remove(path); err != nil {
		tb.Fatal(err)
	}
}
