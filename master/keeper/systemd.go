package keeper

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/daemon"

	"baton/master/internal/monotime"
	"baton/worker/wire"
)

// systemd is what the keeper tells it, in the protocol of Type=notify-reload. Only the keeper speaks with it.
//
//	READY=1      the first generation serves; then the answer to each RELOADING=1, also when the reload has failed
//	RELOADING=1  an attempt begins. systemd believes only one that is not older than its own SIGHUP: a request that comes
//	             while an attempt is on its way, and is served by it, makes the keeper say it again; one that comes too
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

// systemdVariables are what the keeper needs of its environment as long as its PID is the same. No other process sees them.
var systemdVariables = []string{notifyEnv, "WATCHDOG_USEC", "WATCHDOG_PID", fdstoreEnv}

// systemdEnv is that part of the environment, for the binary that the keeper executes.
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
func (k *keeper) openSystemd() {
	s := &k.systemd
	s.owed = true
	s.notifier = newNotifier(k.log)
	if s.notifier == nil {
		return
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		k.log.Warn("keeper: watchdog", "error", err)
	}
	s.watchdog = every
	k.armWatchdog(time.Now())
	s.store.open()
}

// resume is called after an execve, when the keeper's store is back.
func (s *systemd) resume(all store) {
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
func (k *keeper) compare() {
	k.systemd.owed, k.systemd.announced = true, 0
	k.tellReloading("looking for changes")
	k.post(wire.Compare{Whole: k.systemd.notifier != nil})
}

// onCompared: if there is anything to be done, it was asked for before this.
func (k *keeper) onCompared(s *session) {
	if s == k.current && s.serving && k.attempt == nil && k.count == k.served {
		k.sayReady()
	}
}

// endSystemd sends what is still to be sent.
func (k *keeper) endSystemd() { k.systemd.flush(notifyLimit) }

// notifyLimit is how long the keeper's end may wait for a systemd that does not read.
const notifyLimit = 200 * time.Millisecond

func (k *keeper) armWatchdog(now time.Time) {
	if k.systemd.watchdog > 0 {
		k.dl.watchdog = now.Add(k.systemd.watchdog / 2)
	}
}

// beat is due at half the watchdog's interval. That the loop comes to it is half of what it says.
func (k *keeper) beat(now time.Time) {
	if k.healthy() {
		k.systemd.tell(daemon.SdNotifyWatchdog)
	}
	k.armWatchdog(now)
}

// healthy is false when nobody serves and nobody but systemd could help: all masters and all workers are dead, however
// often a master was started again. Workers without a master do serve; a restart of everything would end them.
func (k *keeper) healthy() bool {
	return k.current != nil || k.generation == 0 || k.stopping || len(k.store.names(EntryWorker+"/")) > 0
}

// sayReloading is called when an attempt begins, and when it turns out to serve requests that came later.
func (k *keeper) sayReloading() {
	if k.systemd.owed && k.systemd.announced == k.attempt.seen {
		return
	}
	k.systemd.owed = true
	k.systemd.announced = k.attempt.seen
	k.tellReloading("reloading")
}

func (k *keeper) tellReloading(what string) {
	k.systemd.tell(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", monotime.Now()/1000),
		status("%s; generation %d serves", what, k.generation))
}

// onServing: what the committed master has promised is true by now.
func (k *keeper) onServing(s *session, m wire.Serving) {
	if s != k.current || k.stopping {
		return
	}
	s.serving = true
	k.size = m.Workers
	k.syncStore()
	if k.attempt == nil {
		k.sayReady()
	} else {
		k.sayStatus()
	}
}

// sayReady says that nothing is going on any more: the start or the last attempt has ended, well or not.
func (k *keeper) sayReady() {
	if k.stopping {
		return
	}
	if !k.systemd.owed {
		k.sayStatus()
		return
	}
	k.systemd.owed = false
	k.systemd.tell(daemon.SdNotifyReady, k.statusLine())
}

func (k *keeper) sayStatus() { k.systemd.tell(k.statusLine()) }

func (k *keeper) sayStopping(limit time.Duration) {
	k.systemd.tell(daemon.SdNotifyStopping, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (limit+stopExtra).Microseconds()),
		status("stopping within %v", limit))
}

// stopExtra is what systemd is asked to wait beyond the stop deadline, at which the keeper kills by itself.
const stopExtra = 2 * time.Second

// sayStartFailed: reason is the first master's.
func (k *keeper) sayStartFailed(reason string) { k.systemd.tell(status("start failed: %s", reason)) }

// statusLine is the state in a sentence.
func (k *keeper) statusLine() string {
	text := fmt.Sprintf("generation %d serves, workers: %d", k.generation, k.size)
	if k.current == nil {
		text = fmt.Sprintf("generation %d serves; %s", k.generation, k.absence())
	}
	if n := len(k.results); n > 0 {
		r := k.results[n-1]
		at := time.UnixMilli(r.At).Format(time.TimeOnly)
		if r.OK {
			text += "; last reload: ok, " + at
		} else {
			text += "; last reload failed, " + at + ": " + r.Error
		}
	}
	return status("%s", text)
}

// maxStatus is enough for a line that a person reads.
const maxStatus = 1024

// status is an assignment of one line, whatever an error says: a second line would be another assignment.
func status(format string, args ...any) string {
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
