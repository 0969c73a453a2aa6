package supervisor

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
)

// systemd is what the supervisor tells it, in the protocol of Type=notify-reload. Only the supervisor speaks with it.
//
//	READY=1      the first generation serves; then the answer to each RELOADING=1, also when the reload has failed
//	RELOADING=1  an attempt begins. systemd believes only one that is not older than its own SIGHUP: a request that comes
//	             while an attempt is on its way, and is served by it, makes the supervisor say it again; one that comes too
//	             late for the attempt gets the next one, with a RELOADING=1 of its own
//	STOPPING=1   everything ends, with the time that it may take
//	WATCHDOG=1   at half the interval that systemd asks for, from the loop, while somebody serves (see healthy)
//	STATUS=      what `systemctl status` shows
type systemd struct {
	*notifier
	watchdog time.Duration // 0: off

	owed      bool  // READY=1 has not been said since the start, or since the last RELOADING=1
	announced int64 // the last reload request that a RELOADING=1 is younger than
	store     fdstore
}

// systemdVariables are what the supervisor needs of its environment as long as its PID is the same. No other process sees them.
var systemdVariables = []string{notifyEnv, "WATCHDOG_USEC", "WATCHDOG_PID", fdstoreEnv}

// systemdEnv is that part of the environment, for the binary that the supervisor executes.
func systemdEnv() []string {
	var env []string
	for _, name := range systemdVariables {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// openSystemd begins the conversation, or, after an execve, goes on with it.
func (sv *supervisor) openSystemd() {
	s := &sv.systemd
	s.owed = true
	s.notifier = newNotifier(sv.log)
	if s.notifier == nil {
		return
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		sv.log.Warn("supervisor: watchdog", "error", err)
	}
	s.watchdog = every
	sv.armWatchdog(time.Now())
	s.store.open()
}

// resume is called after an execve, when the supervisor's registry is back.
func (s *systemd) resume(all registry) {
	s.owed = false
	if e, ok := all[entryStored]; ok {
		s.store.listed = true
		for _, r := range readStored(e.fd) {
			s.store.kept[r.Entry] = kept{fdname: r.FDName} // systemd is asked again
		}
	}
}

// compare asks the master whether anything has changed, because a HUP may have been lost. systemd may be waiting for the
// answer to that HUP.
func (sv *supervisor) compare() {
	sv.systemd.owed, sv.systemd.announced = true, 0
	sv.tellReloading("looking for changes")
	sv.post(message.Compare{Whole: sv.systemd.notifier != nil})
}

// onCompared: if there is anything to be done, it was asked for before this.
func (sv *supervisor) onCompared(s *session) {
	if s == sv.current && s.serving && sv.attempt == nil && sv.count == sv.served {
		sv.sayReady()
	}
}

// endSystemd sends what is still to be sent.
func (sv *supervisor) endSystemd() { sv.systemd.flush(notifyLimit) }

// notifyLimit is how long the supervisor's end may wait for a systemd that does not read.
const notifyLimit = 200 * time.Millisecond

func (sv *supervisor) armWatchdog(now time.Time) {
	if sv.systemd.watchdog > 0 {
		sv.dl.watchdog = now.Add(sv.systemd.watchdog / 2)
	}
}

// beat is due at half the watchdog's interval. That the loop comes to it is half of what it says.
func (sv *supervisor) beat(now time.Time) {
	if sv.healthy() {
		sv.systemd.tell(daemon.SdNotifyWatchdog)
	}
	sv.armWatchdog(now)
}

// healthy is false when nobody serves and nobody but systemd could help: all masters and all workers are dead, however
// often a master was started again. Workers without a master do serve; a restart of everything would end them.
func (sv *supervisor) healthy() bool {
	return sv.current != nil || sv.generation == 0 || sv.stopping || len(sv.registry.names(EntryWorker+"/")) > 0
}

// sayReloading is called when an attempt begins, and when it turns out to serve requests that came later.
func (sv *supervisor) sayReloading() {
	if sv.systemd.owed && sv.systemd.announced == sv.attempt.seen {
		return
	}
	sv.systemd.owed = true
	sv.systemd.announced = sv.attempt.seen
	sv.tellReloading("reloading")
}

func (sv *supervisor) tellReloading(what string) {
	sv.systemd.tell(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", monotime.Now()/1000),
		statusText("%s; generation %d serves", what, sv.generation))
}

// onServing: what the committed master has promised is true by now.
func (sv *supervisor) onServing(s *session, m message.Serving) {
	if s != sv.current || sv.stopping {
		return
	}
	s.serving = true
	sv.size = m.Workers
	sv.syncStore()
	if sv.attempt == nil {
		sv.sayReady()
	} else {
		sv.sayStatus()
	}
}

// sayReady says that nothing is going on any more: the start or the last attempt has ended, well or not.
func (sv *supervisor) sayReady() {
	if sv.stopping {
		return
	}
	if !sv.systemd.owed {
		sv.sayStatus()
		return
	}
	sv.systemd.owed = false
	sv.systemd.tell(daemon.SdNotifyReady, sv.statusLine())
}

func (sv *supervisor) sayStatus() { sv.systemd.tell(sv.statusLine()) }

func (sv *supervisor) sayStopping(limit time.Duration) {
	sv.systemd.tell(daemon.SdNotifyStopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (limit+stopExtra).Microseconds()),
		statusText("stopping within %v", limit))
}

// stopExtra is what systemd is asked to wait beyond the stop deadline, at which the supervisor kills by itself.
const stopExtra = 2 * time.Second

// sayStartFailed: reason is the first master's.
func (sv *supervisor) sayStartFailed(reason string) {
	sv.systemd.tell(statusText("start failed: %s", reason))
}

// statusLine is the state in a sentence.
func (sv *supervisor) statusLine() string {
	text := fmt.Sprintf("generation %d serves, workers: %d", sv.generation, sv.size)
	if sv.current == nil {
		text = fmt.Sprintf("generation %d serves; %s", sv.generation, sv.absence())
	}
	if n := len(sv.results); n > 0 {
		r := sv.results[n-1]
		at := time.UnixMilli(r.At).Format(time.TimeOnly)
		if r.OK {
			text += "; last reload: ok, " + at
		} else {
			text += "; last reload failed, " + at + ": " + r.Error
		}
	}
	return statusText("%s", text)
}

// maxStatus is enough for a line that a person reads.
const maxStatus = 1024

// statusText is an assignment of one line, whatever an error says: a second line would be another assignment.
func statusText(format string, args ...any) string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(fmt.Sprintf(format, args...), "?"))
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + " …"
	}
	return "STATUS=" + text
}
