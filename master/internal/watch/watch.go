// Package watch says when files have really changed: their content, not their dates, and not before their writer is
// done.
//
// It watches the directories of every link on the way to a file, because editors and configuration management replace
// the file, and a Kubernetes ConfigMap replaces a symbolic link beside it. Events only say that it is time to read the
// files, and whether one is being written in place: then 500 ms of quiet are awaited. A file that is not valid is read
// again for 2 s before it counts as broken. A file that is gone is no change; it is waited for.
//
// Without inotify (a network file system, a limit that is reached) it polls, and says so once.
package watch

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settle       = 20 * time.Millisecond  // after a rename: a write may follow
	quiet        = 500 * time.Millisecond // after a write in place
	invalidLimit = 2 * time.Second        // until an invalid file counts as broken
	retry        = 100 * time.Millisecond // between two reads of an invalid file
	pollInterval = 5 * time.Second        // where there is no inotify
)

// Options say what is watched, and what happens at a change.
type Options struct {
	Files  []string
	Loaded Sum // what is running

	// Valid reports whether the files make a configuration.
	Valid func() error

	// Changed is called once for every content that is new and has come to rest, valid or not.
	//
	// Threading: on the watcher's goroutine.
	Changed func()

	Log *slog.Logger

	// notify makes the change notification; nil is inotify's.
	notify func() (*fsnotify.Watcher, error)
}

// watcher is owned by the goroutine of Run.
type watcher struct {
	Options
	fs      *fsnotify.Watcher // nil: polling
	events  chan fsnotify.Event
	errors  chan error
	dirs    map[string]bool // that are watched
	polling bool

	told         Sum       // what Changed was called for, or is running
	next         time.Time // when to check; zero: at rest
	invalid      Sum       // a content that is not valid
	invalidSince time.Time
	unreadable   bool // which was logged
}

// Run watches until ctx ends. A change between the load and its start is noticed.
func Run(ctx context.Context, o Options) {
	w := &watcher{Options: o, told: o.Loaded, dirs: map[string]bool{}}
	if w.notify == nil {
		w.notify = fsnotify.NewWatcher
	}
	fs, err := w.notify()
	if err != nil {
		w.poll(err)
	} else {
		defer func() { _ = fs.Close() }()
		w.fs, w.events, w.errors = fs, fs.Events, fs.Errors
		w.follow()
	}
	if sum, err := Read(w.Files); err != nil || sum != w.told {
		w.next = time.Now().Add(quiet)
	}
	w.loop(ctx)
}

func (w *watcher) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		switch {
		case !w.next.IsZero():
			timer.Reset(time.Until(w.next))
		case w.polling:
			timer.Reset(pollInterval)
		default:
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-w.events:
			if ok {
				w.on(ev)
			}
		case <-w.errors: // events were lost
			w.checkAfter(settle)
		case <-timer.C:
			w.check(time.Now())
		}
	}
}

// on plans the next check. A write in place postpones it; anything else brings it forward, unless one is planned.
func (w *watcher) on(ev fsnotify.Event) {
	switch {
	case ev.Has(fsnotify.Write):
		if w.watches(ev.Name) {
			w.next = time.Now().Add(quiet)
		}
	case ev.Op == fsnotify.Chmod:
		if w.watches(ev.Name) { // dates and modes are no change, but a file may have become readable
			w.checkAfter(settle)
		}
	default:
		w.checkAfter(settle)
	}
}

// watches reports whether a file is one of ours. Logs may be written in the same directory all day.
func (w *watcher) watches(name string) bool {
	for _, f := range w.Files {
		if filepath.Clean(name) == filepath.Clean(f) {
			return true
		}
		if real, err := filepath.EvalSymlinks(f); err == nil {
			if r, err := filepath.EvalSymlinks(name); err == nil && r == real {
				return true
			}
		}
	}
	return false
}

// checkAfter checks after d, unless a check is planned already.
func (w *watcher) checkAfter(d time.Duration) {
	if w.next.IsZero() {
		w.next = time.Now().Add(d)
	}
}

// check reads the files and decides whether they have changed.
func (w *watcher) check(now time.Time) {
	w.next = time.Time{}
	w.follow()
	sum, err := Read(w.Files)
	if err != nil {
		w.cannotRead(err)
		return
	}
	w.unreadable = false
	if sum == w.told {
		w.invalidSince = time.Time{}
		return
	}
	if err := w.Valid(); err != nil {
		if w.invalidSince.IsZero() || w.invalid != sum {
			w.invalidSince, w.invalid = now, sum
		}
		if now.Sub(w.invalidSince) < invalidLimit { // it may be half a file
			w.next = now.Add(retry)
			return
		}
	}
	if after, err := Read(w.Files); err != nil || after != sum {
		w.next = now.Add(quiet) // it has changed meanwhile
		return
	}
	w.invalidSince = time.Time{}
	w.told = sum
	w.Changed()
}

// cannotRead logs that the files cannot be read, once. The running configuration stays, and the files are waited for.
func (w *watcher) cannotRead(err error) {
	if !w.unreadable {
		w.Log.Warn("watch: the configuration cannot be read, what runs goes on", "error", err)
		w.unreadable = true
	}
}

// poll begins to poll.
func (w *watcher) poll(because any) {
	if !w.polling {
		w.Log.Warn("watch: no change notification, polling", "every", pollInterval, "because", because)
	}
	w.polling = true
}

// follow watches the directories that matter now: links may lead elsewhere since the last change. There are no events
// of what appears while it looks, so it looks again until nothing has.
func (w *watcher) follow() {
	if w.fs == nil {
		return
	}
	want := w.wanted()
	for range 5 {
		for dir := range w.dirs {
			if !want[dir] {
				_ = w.fs.Remove(dir)
				delete(w.dirs, dir)
			}
		}
		for dir := range want {
			w.watch(dir)
		}
		before := want
		if want = w.wanted(); maps.Equal(before, want) {
			return
		}
	}
}

func (w *watcher) wanted() map[string]bool {
	want := map[string]bool{}
	for _, f := range w.Files {
		for _, dir := range directories(f) {
			want[existing(dir)] = true
		}
	}
	return want
}

// watch watches a directory, also one that is watched: another one may be at its path by now.
func (w *watcher) watch(dir string) {
	if isRemote(dir) {
		w.poll("network file system at " + dir)
	}
	switch err := w.fs.Add(dir); {
	case err == nil:
		w.dirs[dir] = true
	case !missing(err):
		w.poll(err)
	}
}
