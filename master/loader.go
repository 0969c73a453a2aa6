package master

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"baton/master/internal/message"
	"baton/master/internal/watch"
	"baton/worker/wire"
)

// origin is how this process was started.
type origin struct {
	dir     string   // the user's
	args    []string // as typed; os.Args are another's while a successor starts
	attempt string   // the reload whose successor this process is; empty: none
}

// path is p as the user meant it, from where the user was; "" stays so.
func (o origin) path(p string) string {
	switch {
	case p == "":
		return ""
	case filepath.IsAbs(p):
		return filepath.Clean(p)
	}
	return filepath.Join(o.dir, p)
}

// loader calls Options.Load, once at a time, and not while os.Args are a successor's.
type loader struct {
	busy      sync.Mutex
	load      func(context.Context) (Config, error)
	sum       watch.Sum          // of the files of the configuration that runs
	stopWatch context.CancelFunc // nil: no watch runs
}

func (l *loader) once(ctx context.Context) (Config, error) {
	l.busy.Lock()
	defer l.busy.Unlock()
	return l.load(ctx)
}

// maxLoads is how often a configuration is loaded whose files change meanwhile.
const maxLoads = 5

// settled loads the configuration, and once more if the files have changed meanwhile.
func (l *loader) settled(o origin) (cfg Config, err error) {
	for range maxLoads {
		if cfg, err = l.once(context.Background()); err != nil {
			return cfg, err
		}
		if len(cfg.Listen) == 0 {
			return cfg, errNoListener
		}
		if err := cfg.check(); err != nil {
			return cfg, err
		}
		cfg.Control = o.path(cfg.Control)
		if len(cfg.Watch) == 0 {
			break
		}
		if l.sum, err = watch.Read(cfg.Watch); err == nil && l.loads(cfg, o) {
			break
		}
	}
	return cfg, cfg.User.MayStart()
}

// loads reports whether cfg is what is loaded now.
func (l *loader) loads(cfg Config, o origin) bool {
	again, err := l.once(context.Background())
	again.Control = o.path(again.Control)
	return err == nil && sameJSON(again, cfg)
}

func sameJSON(a, b any) bool {
	x, err1 := wire.Marshal(a)
	y, err2 := wire.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// watch calls changed when one of the files has changed, and the configuration is right.
func (l *loader) watch(files []string, log *slog.Logger, changed func()) {
	if len(files) == 0 || l.stopWatch != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stopWatch = cancel
	go watch.Run(ctx, watch.Options{
		Files: files, Loaded: l.sum, Log: log, Changed: changed,
		Valid: func() error { _, err := l.once(ctx); return err },
	})
}

func (l *loader) unwatch() {
	if l.stopWatch != nil {
		l.stopWatch()
	}
}

// onCompare asks for a reload if what is on disk is not what runs: the supervisor may have lost a HUP. Changed files
// are asked for by the watch, if there is one.
func (m *master) onCompare(c message.Compare) {
	if !m.enter(eventRequest) {
		return
	}
	cfg, origin := m.cfg, m.origin
	go func() {
		if otherBinary(origin.args[0]) || (c.Whole || len(cfg.Watch) == 0) && !m.loader.loads(cfg, origin) {
			_ = m.supervisor.Post(message.ReloadRequest{Source: message.SourceCompare})
		}
		_ = m.supervisor.Post(message.Compared{})
	}()
}

// otherBinary reports whether path is another file than the one that is executed. A file that is not there is none.
func otherBinary(path string) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	ours, err := os.Stat("/proc/self/exe")
	return err == nil && !os.SameFile(there, ours)
}
