package watch

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// patience is long enough for whatever a test waits for: it ends tests that fail.
const patience = 20 * time.Second

// TestMain: the tests wait for most of their time, and may do so together on one CPU.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "32")
	os.Exit(m.Run())
}

// silence is longer than what the watcher waits for before it tells of a valid change.
const silence = quiet + 4*settle + retry

// watched is a file that is watched, and what was told.
type watched struct {
	t       *testing.T
	file    string
	changed chan string   // its content, with each call of Changed
	invalid chan struct{} // one for a content that was found invalid, at least
}

// A content is valid unless it is half.
func valid(content string) error {
	if strings.HasPrefix(content, "half") {
		return errors.New("half")
	}
	return nil
}

// watchFile watches a file, which is loaded as it is now.
func watchFile(t *testing.T, file string) *watched {
	t.Helper()
	sum, err := Read([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	return watchFrom(t, file, sum)
}

func watchFrom(t *testing.T, file string, loaded Sum) *watched {
	t.Helper()
	return watchBy(t, file, loaded, nil)
}

func watchBy(t *testing.T, file string, loaded Sum, notify func() (*fsnotify.Watcher, error)) *watched {
	t.Helper()
	w := &watched{t: t, file: file, changed: make(chan string, 100), invalid: make(chan struct{}, 1)}
	content := func() string { b, _ := os.ReadFile(file); return string(b) }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Run(ctx, Options{
			Files: []string{file}, Loaded: loaded, Log: slog.New(slog.DiscardHandler),
			Valid: func() error {
				err := valid(content())
				if err != nil {
					select {
					case w.invalid <- struct{}{}:
					default:
					}
				}
				return err
			},
			Changed: func() { w.changed <- content() },
			notify:  notify,
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

// tells waits for exactly one change, to content.
func (w *watched) tells(content string) {
	w.t.Helper()
	select {
	case got := <-w.changed:
		if got != content {
			w.t.Errorf("told of %q, want %q", got, content)
		}
	case <-time.After(patience):
		w.t.Fatalf("not told of %q", content)
	}
	w.isSilent("after " + content)
}

func (w *watched) isSilent(when string) {
	w.t.Helper()
	select {
	case got := <-w.changed:
		w.t.Errorf("%s: told of %q", when, got)
	case <-time.After(silence):
	}
}

// findsInvalid waits until the file has been read and found invalid.
func (w *watched) findsInvalid() {
	w.t.Helper()
	select {
	case <-w.invalid:
	case <-time.After(patience):
		w.t.Fatal("an invalid file was not read")
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// inPlace writes as a shell's > does.
func inPlace(t *testing.T, file, content string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(content), 0o600))
}

// swap replaces the file as editors do.
func swap(t *testing.T, file, content string) {
	t.Helper()
	inPlace(t, file+".new", content)
	must(t, os.Rename(file+".new", file))
}

// one is a file with the content "one", in a folder of its own.
func one(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	inPlace(t, file, "one")
	return file
}

func TestRename(t *testing.T) {
	t.Parallel()
	w := watchFile(t, one(t))
	for _, content := range []string{"two", "three"} {
		swap(t, w.file, content)
		w.tells(content)
	}
}

func TestWriteInPlace(t *testing.T) {
	t.Parallel()
	w := watchFile(t, one(t))
	inPlace(t, w.file, "two")
	w.tells("two")
}

// The second half comes when the first has been read and was found to be one.
func TestTwoHalves(t *testing.T) {
	t.Parallel()
	w := watchFile(t, one(t))
	inPlace(t, w.file, "half")
	w.findsInvalid()
	inPlace(t, w.file, "whole")
	w.tells("whole")
}

func TestInvalidForLong(t *testing.T) {
	t.Parallel()
	w := watchFile(t, one(t))
	begin := time.Now()
	swap(t, w.file, "half")
	w.tells("half")
	if waited := time.Since(begin); waited < invalidLimit {
		t.Errorf("an invalid file was given %v, not %v", waited, invalidLimit)
	}
	swap(t, w.file, "whole")
	w.tells("whole")
}

func TestInvalidAndBack(t *testing.T) {
	t.Parallel()
	w := watchFile(t, one(t))
	swap(t, w.file, "half")
	w.findsInvalid()
	swap(t, w.file, "one")
	w.isSilent("what is loaded is back")
}

func TestNoChangeIsSilent(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, file string){
		"touch":          func(t *testing.T, file string) { must(t, os.Chtimes(file, time.Now(), time.Now())) },
		"chmod":          func(t *testing.T, file string) { must(t, os.Chmod(file, 0o644)) },
		"written anew":   func(t *testing.T, file string) { inPlace(t, file, "one") },
		"swapped":        func(t *testing.T, file string) { swap(t, file, "one") },
		"gone":           func(t *testing.T, file string) { must(t, os.Remove(file)) },
		"gone and back":  func(t *testing.T, file string) { must(t, os.Remove(file)); inPlace(t, file, "one") },
		"there and back": func(t *testing.T, file string) { inPlace(t, file, "two"); inPlace(t, file, "one") },
		"read":           func(t *testing.T, file string) { _, err := os.ReadFile(file); must(t, err) },
		"another file": func(t *testing.T, file string) {
			inPlace(t, file+".log", "x")
			inPlace(t, file+".log",
				"xy")
		},
		"another renamed": func(t *testing.T, file string) { swap(t, file+".bak", "x") },
		"another removed": func(t *testing.T, file string) { inPlace(t, file+"~", "x"); must(t, os.Remove(file+"~")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := watchFile(t, one(t))
			do(t, w.file)
			w.isSilent(name)
			swap(t, w.file, "two") // it has been watching
			w.tells("two")
		})
	}
}

func TestDeletedAndBack(t *testing.T) {
	t.Parallel()
	w := watchFile(t, one(t))
	must(t, os.Remove(w.file))
	w.isSilent("deleted")
	inPlace(t, w.file, "two")
	w.tells("two")
}

// The folder goes too, as when a checkout is made anew.
func TestFolderReplaced(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "conf")
	file := filepath.Join(dir, "config")
	must(t, os.Mkdir(dir, 0o700))
	inPlace(t, file, "one")
	w := watchFile(t, file)
	for _, content := range []string{"two", "three"} {
		must(t, os.Mkdir(dir+".new", 0o700))
		inPlace(t, filepath.Join(dir+".new", "config"), content)
		must(t, os.RemoveAll(dir), os.Rename(dir+".new", dir))
		w.tells(content)
	}
}

func TestFolderDeletedAndBack(t *testing.T) {
	t.Parallel()
	top := filepath.Join(t.TempDir(), "a")
	dir := filepath.Join(top, "b", "c")
	file := filepath.Join(dir, "config")
	must(t, os.MkdirAll(dir, 0o700))
	inPlace(t, file, "one")
	w := watchFile(t, file)
	must(t, os.RemoveAll(top))
	w.isSilent("deleted")
	must(t, os.MkdirAll(dir, 0o700))
	w.isSilent("only the folder is back")
	inPlace(t, file, "two")
	w.tells("two")
}

// A Kubernetes ConfigMap: config -> ..data/config, ..data -> ..1, which is renamed over.
func TestConfigMap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	publish := func(version, content string) {
		must(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		inPlace(t, filepath.Join(dir, version, "config"), content)
		tmp := filepath.Join(dir, "..data_tmp")
		must(t, os.Symlink(version, tmp), os.Rename(tmp, filepath.Join(dir, "..data")))
	}
	publish("..1", "one")
	file := filepath.Join(dir, "config")
	must(t, os.Symlink("..data/config", file))
	w := watchFile(t, file)
	publish("..2", "two")
	must(t, os.RemoveAll(filepath.Join(dir, "..1")))
	w.tells("two")
	publish("..3", "three")
	w.tells("three")
}

// current -> releases/1 leads to the folder, and another link to the file in it.
func TestLinkedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for release, content := range map[string]string{"1": "one", "2": "two"} {
		d := filepath.Join(dir, "releases", release)
		must(t, os.MkdirAll(d, 0o700))
		inPlace(t, filepath.Join(d, "config"), content)
	}
	current := filepath.Join(dir, "current")
	must(t, os.Symlink("releases/1", current))
	file := filepath.Join(t.TempDir(), "config")
	must(t, os.Symlink(filepath.Join(current, "config"), file))
	w := watchFile(t, file)
	must(t, os.Symlink("releases/2", current+".new"), os.Rename(current+".new", current))
	w.tells("two")
	inPlace(t, filepath.Join(dir, "releases", "2", "config"), "three")
	w.tells("three")
}

func TestChangeBetweenLoadAndStart(t *testing.T) {
	t.Parallel()
	file := one(t)
	loaded, err := Read([]string{file})
	must(t, err)
	inPlace(t, file, "two")
	watchFrom(t, file, loaded).tells("two")
}

func TestGoneBeforeTheStart(t *testing.T) {
	t.Parallel()
	file := one(t)
	loaded, err := Read([]string{file})
	must(t, err, os.Remove(file))
	w := watchFrom(t, file, loaded)
	w.isSilent("gone")
	inPlace(t, file, "two")
	w.tells("two")
}
