package master

import (
	"cmp"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/supervisor"
	"baton/worker/logsink"
	"baton/worker/ownfile"
	"baton/worker/rawfd"
	"baton/worker/wire"
)

// logging is where this process and its workers write their log.
type logging struct {
	log      *slog.Logger
	sink     *logsink.Sink
	logFD    int // the log file; -1: standard error
	warnings warnings
}

// openLog opens the log file, if there is one. What is said before COMMIT goes to the predecessor's. A restarted master
// needs no file: what is open stays so.
func (l *logging) openLog(r *registry, path string, style wire.LogStyle, restart bool) error {
	if path == "" {
		return nil
	}
	fd, made, err := logsink.Create(path)
	if err != nil && restart {
		e, ok := r.claim(supervisor.EntryLog)
		if l.logFD = e.fd; ok {
			return nil
		}
	}
	if err != nil {
		return err
	}
	l.logFD = fd
	if made {
		f, _ := ownfile.Of(fd, path)
		r.put(message.Put{Name: supervisor.EntryLog, Undo: f}, style, fd)
	}
	return nil
}

// startLogging begins to write where the config says, and returns what its workers write to from now on; -1 is what
// they have.
func (l *logging) startLogging(r *registry, style wire.LogStyle) (workers int) {
	l.log = logsink.Logger(l.sink, style)
	old, had := r.claim(supervisor.EntryLog)
	old.close()
	if l.logFD < 0 {
		r.drop(supervisor.EntryLog)
	}
	r.store(supervisor.EntryLog, style, l.logFD)
	switch {
	case l.logFD >= 0:
		if fd, err := rawfd.Dup(l.logFD); err == nil {
			l.sink.SetFD(fd)
		}
		return l.logFD
	case had && old.fd >= 0:
		return unix.Stderr
	}
	return -1
}

// reopen opens the log file anew.
func (l *logging) reopen(path string) error {
	fd, err := logsink.Open(path)
	if err != nil {
		return err
	}
	_ = unix.Close(l.logFD)
	l.logFD = fd
	return nil
}

// missingLines says what did not get into the log.
func (l *logging) missingLines(workers map[int]*proc) []string {
	n, why := l.sink.Missing()
	for _, p := range workers {
		n += p.stats.LogLost
		why = cmp.Or(why, p.stats.LogError)
	}
	if n == 0 {
		return nil
	}
	return []string{
		fmt.Sprintf("log: %d lines of the running processes are lost: %s", n, cmp.Or(why, "nobody reads it")),
	}
}

// warn says once what lasts until the next generation.
func (l *logging) warn(text string) { l.warnOf(text, text) }

// warnOf says that something is wrong, once, and replaces what was said under that key.
func (l *logging) warnOf(key, text string) {
	if l.warnings.set(key, text) {
		l.log.Warn("master: " + text)
	}
}

// workerLog is what a new worker writes to; -1 is standard error, which it has. Before COMMIT that is what the
// predecessor writes to: a log file that an attempt has made goes with the attempt, and not with the reason of its
// failure.
func (m *master) workerLog() int {
	if m.phase.isMaster() && m.logFD >= 0 {
		return m.logFD
	}
	if e, ok := m.inherited[supervisor.EntryLog]; ok {
		return e.fd
	}
	return -1
}

// giveLog tells workers to write to fd, unless that is -1.
func (w *pool) giveLog(fd int, to func(*proc) bool) {
	for _, p := range w.procs {
		if fd >= 0 && to(p) {
			_ = p.conn.Post(wire.LogFile{}, fd)
		}
	}
}

// onReopen opens the log file anew, here and in every worker.
func (m *master) onReopen(message.Reopen) {
	defer func() { _ = m.supervisor.Post(message.Reopened{}) }()
	if m.cfg.LogFile == "" {
		return
	}
	if err := m.reopen(m.path(m.cfg.LogFile)); err != nil {
		m.log.Error("master: reopen", "error", err)
		return
	}
	m.giveLog(m.startLogging(&m.registry, m.cfg.logStyle()), func(*proc) bool { return true })
}
