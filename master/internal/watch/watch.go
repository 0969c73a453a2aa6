package watch

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long things are awaited.
const (
	settle  = 20 * time.Millisecond  // after a rename: whoever creates and then writes shows himself
	quiet   = 500 * time.Millisecond // after a write in place
	patient = 2 * time.Second        // with an invalid file
	again   = 100 * time.Millisecond // an invalid file is read again
	poll    = 5 * time.Second        // where there is no inotify
)

// Options is what is watched, and for whom.
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
	folders map[string]bool

	told    Sum       // what Changed was called for, or is running
	pending time.Time // when to look; zero: at rest
	invalid time.Time // since when the present content is invalid; zero: it is not
	bad     Sum       // that content
	polling bool
	warned  bool
}

// Run watches until ctx ends. What has changed between the load and its start is noticed.
func Run(ctx context.Context, o Options) {
	w := &watcher{Options: o, told: o.Loaded, folders: map[string]bool{}}
	w.open()
	if w.fs != nil {
		defer func() { _ = w.fs.Close() }()
	}
	if sum, err := Read(w.Files); err != nil || sum != w.told {
		w.pending = time.Now().Add(quiet)
	}
	w.loop(ctx)
}

func (w *watcher) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.arm(timer)
		events, errs := w.channels()
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-events:
			if ok {
				w.on(ev)
			}
		case <-errs: // events were lost: look
			w.later(settle)
		case <-timer.C:
			w.look(time.Now())
		}
	}
}

func (w *watcher) channels() (chan fsnotify.Event, chan error) {
	if w.fs == nil {
		return nil, nil
	}
	return w.fs.Events, w.fs.Errors
}

func (w *watcher) arm(t *time.Timer) {
	switch {
	case !w.pending.IsZero():
		t.Reset(time.Until(w.pending))
	case w.polling:
		t.Reset(poll)
	default:
		t.Stop()
	}
}

// on plans the next look. A write in place pushes it back, anything else brings it forward but for such a write.
func (w *watcher) on(ev fsnotify.Event) {
	switch {
	case ev.Has(fsnotify.Write):
		if w.concerns(ev.Name) {
			w.pending = time.Now().Add(quiet)
		}
	case ev.Op == fsnotify.Chmod:
		// dates and modes are no change, but a file may have become readable
		if w.concerns(ev.Name) && w.pending.IsZero() {
			w.later(settle)
		}
	default:
		w.later(settle)
	}
}

// concerns reports whether a written file is one of ours. Logs may be written in the same folder all day.
func (w *watcher) concerns(name string) bool {
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

// later looks after d, unless a look is planned already.
func (w *watcher) later(d time.Duration) {
	if w.pending.IsZero() {
		w.pending = time.Now().Add(d)
	}
}

// look reads the files and decides whether there is news.
func (w *watcher) look(now time.Time) {
	w.pending = time.Time{}
	w.follow()
	sum, err := Read(w.Files)
	if err != nil {
		w.unreadable(err)
		return
	}
	w.warned = false
	if sum == w.told {
		w.invalid = time.Time{}
		return
	}
	if err := w.Valid(); err != nil && !w.patienceEnds(sum, now) {
		w.pending = now.Add(again)
		return
	}
	if after, err := Read(w.Files); err != nil || after != sum {
		w.pending = now.Add(quiet) // it changes under our eyes
		return
	}
	w.invalid = time.Time{}
	w.told = sum
	w.Changed()
}

// patienceEnds reports whether an invalid content has been there for too long to be half a file.
func (w *watcher) patienceEnds(sum Sum, now time.Time) bool {
	if w.invalid.IsZero() || w.bad != sum {
		w.invalid, w.bad = now, sum
	}
	return now.Sub(w.invalid) >= patient
}

// unreadable: what runs goes on; the file is waited for.
func (w *watcher) unreadable(err error) {
	if !w.warned {
		w.Log.Warn("watch: the configuration cannot be read, what runs goes on", "error", err)
		w.warned = true
	}
	if !missing(err) {
		w.polling = w.polling || w.fs == nil
	}
}

// open begins to watch, or to poll.
func (w *watcher) open() {
	notify := w.notify
	if notify == nil {
		notify = fsnotify.NewWatcher
	}
	fs, err := notify()
	if err != nil {
		w.fallBack(err)
		return
	}
	w.fs = fs
	w.follow()
}

func (w *watcher) fallBack(why any) {
	if !w.polling {
		w.Log.Warn("watch: no change notification, polling", "every", poll, "because", why)
	}
	w.polling = true
}

// follow watches the folders that matter now: links may lead elsewhere since the last change. What comes into being
// while it looks is looked at once more, for of that there is no event.
func (w *watcher) follow() {
	if w.fs == nil {
		return
	}
	want := w.wanted()
	for range 5 {
		for dir := range w.folders {
			if !want[dir] {
				_ = w.fs.Remove(dir)
				delete(w.folders, dir)
			}
		}
		for dir := range want {
			w.watchFolder(dir)
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
		for _, dir := range folders(f) {
			want[existing(dir)] = true
		}
	}
	return want
}

func (w *watcher) watchFolder(dir string) {
	if isRemote(dir) {
		w.fallBack("network file system at " + dir)
	}
	// Again even when it is watched: the folder at this path may be another one by now.
	if err := w.fs.Add(dir); err != nil {
		if !missing(err) {
			w.fallBack(err)
		}
		return
	}
	w.folders[dir] = true
}
