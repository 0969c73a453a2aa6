// Package systemd is the conversation with systemd, of a service of Type=notify-reload: what is going on, the
// watchdog, the sockets that a socket unit passes, and the store of descriptors, in which the listening sockets
// outlive the process.
//
// A [Manager] never blocks on systemd: messages wait in a queue, and are dropped when it is full.
package systemd

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"

	"baton/master/internal/monotime"
)

// Variables that systemd sets. The process keeps these of them as long as its PID is the same, and hides them from
// others.
const (
	notifyEnv   = "NOTIFY_SOCKET"
	watchdogEnv = "WATCHDOG_USEC"
	mainPIDEnv  = "WATCHDOG_PID"
	fdStoreEnv  = "FDSTORE" // how many descriptors systemd offers to keep, since version 254
)

// Private are all variables by which systemd speaks to one process only.
var Private = []string{
	notifyEnv, watchdogEnv, mainPIDEnv, fdStoreEnv, "MAINPID",
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
}

// Environment returns the part of the environment that a program needs which this process executes.
func Environment() []string {
	var env []string
	for _, name := range []string{notifyEnv, watchdogEnv, mainPIDEnv, fdStoreEnv} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Options say what systemd wants, and what the program has for it.
type Options struct {
	Socket   string        // to which notifications are sent; empty: systemd is not there
	Watchdog time.Duration // 0: off
	FDs      int           // descriptors that systemd keeps; 0: none

	Log     *slog.Logger
	Later   func(func())    // runs a function on the goroutine that owns the Manager
	Sockets func() []Socket // all that systemd should keep
}

// FromEnvironment sets what systemd wants.
func (o Options) FromEnvironment() Options {
	if o.Socket = os.Getenv(notifyEnv); o.Socket == "" {
		return o
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		o.Log.Warn("supervisor: watchdog", "error", err)
	}
	o.Watchdog = every
	o.FDs, _ = strconv.Atoi(os.Getenv(fdStoreEnv))
	return o
}

// Manager is the service manager. It is owned by one goroutine.
//
//	READY=1      the first generation serves; then the answer to each RELOADING=1, also when the reload has failed
//	RELOADING=1  an attempt begins. systemd believes only one that is not older than its own SIGHUP: a request
//	             that comes while an attempt is in progress, and is served by it, makes the process say it again;
//	             one that comes too late for the attempt gets the next one, with a RELOADING=1 of its own
//	STOPPING=1   everything ends, with the time that it may take
//	WATCHDOG=1   at half the interval that systemd asks for
//	STATUS=      what `systemctl status` shows
type Manager struct {
	notifier
	opts Options
	fds  fdStore

	unanswered bool      // READY=1 has not been said since the start, or since the last RELOADING=1
	announced  int64     // the last reload request that a RELOADING=1 is younger than
	beatAt     time.Time // the next WATCHDOG=1; zero: never
}

// Open begins the conversation.
func Open(opts Options) *Manager {
	m := &Manager{opts: opts, unanswered: true}
	m.log = opts.Log
	if opts.Socket == "" {
		return m
	}
	m.start(opts.Socket)
	if opts.Watchdog > 0 {
		m.beatAt = time.Now().Add(opts.Watchdog / 2)
	}
	m.fds.open(opts.FDs)
	return m
}

// Present reports whether systemd is there.
func (m *Manager) Present() bool { return m.notes != nil }

// Next returns when Tick has something to do; zero: never.
func (m *Manager) Next() time.Time {
	if m.fds.retryAt.IsZero() || !m.beatAt.IsZero() && m.beatAt.Before(m.fds.retryAt) {
		return m.beatAt
	}
	return m.fds.retryAt
}

// Tick does what is due. The watchdog's interval is kept only while the program is healthy.
func (m *Manager) Tick(now time.Time, healthy bool) {
	if at := m.fds.retryAt; !at.IsZero() && !now.Before(at) {
		m.Sync()
	}
	if m.beatAt.IsZero() || now.Before(m.beatAt) {
		return
	}
	m.beatAt = now.Add(m.opts.Watchdog / 2)
	if healthy {
		m.tell(daemon.SdNotifyWatchdog)
	}
}

// Reloading says that a reload has begun that serves all requests up to seen. It is said once for each seen; 0: always.
func (m *Manager) Reloading(seen int64, text string) {
	if m.unanswered && seen > 0 && m.announced == seen {
		return
	}
	m.unanswered, m.announced = true, seen
	m.tell(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", monotime.Now()/1000), assignment(text))
}

// Ready says that the start or the last reload has ended, well or not.
func (m *Manager) Ready(text string) {
	if !m.unanswered {
		m.Status(text)
		return
	}
	m.unanswered = false
	m.tell(daemon.SdNotifyReady, assignment(text))
}

// Status says nothing but the text.
func (m *Manager) Status(text string) { m.tell(assignment(text)) }

// stopExtra is what systemd is asked to wait beyond the stop deadline, at which the supervisor kills by itself.
const stopExtra = 2 * time.Second

// Stopping says that everything will have ended within limit. systemd keeps the sockets that it has.
func (m *Manager) Stopping(limit time.Duration) {
	m.fds.closed = true
	m.tell(daemon.SdNotifyStopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (limit+stopExtra).Microseconds()),
		assignment(fmt.Sprintf("stopping within %v", limit)))
}

// maxStatus is enough for a line that a person reads.
const maxStatus = 1024

// assignment is STATUS= with the text in one line: a second line would be another assignment.
func assignment(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + " …"
	}
	return "STATUS=" + text
}
