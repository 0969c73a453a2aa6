package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/status"
	"baton/master/internal/supervisor/reexec"
	"baton/master/internal/supervisor/reexec/earlysignal"
	"baton/master/internal/systemd"
	"baton/worker"
	"baton/worker/logsink"
	"baton/worker/wire"
)

// Exit codes besides those of a first master that failed.
const (
	exitOK     = 0
	exitUser   = 100
	exitSystem = 111
)

// gcPercent keeps the heap of a process that does little as small as it is: with Go's default nothing is collected
// below 4 MB.
const gcPercent = 25

// lastWords is how long an exiting supervisor waits for what it has said to systemd and to its log.
const lastWords = 200 * time.Millisecond

// supervisor is owned by the goroutine of loop.
type supervisor struct {
	masters // who is the master, and the takeovers

	version string
	pid     int
	started time.Time
	args    []string // as typed, with an absolute path first
	dir     string   // the user's
	kernel  kernel
	log     *slog.Logger
	sink    *logsink.Sink
	tty     *terminal
	systemd *systemd.Manager

	registry  registry
	size      int // workers, as the master says
	results   results
	limiter   reloadLimiter
	dead      map[int]unix.WaitStatus // workers that exited while there was no master, which is to read their last words
	front     front
	stopping  stopping
	instances instances
	reexec    reexecution

	events events
	timer  *time.Timer // the earliest deadline, see schedule
}

// events are what others send to the loop.
type events struct {
	packets  chan packetEvent
	signals  chan os.Signal
	children chan os.Signal // CHLD, with room for one: it says only that it is time to reap
	calls    chan func()    // run on the loop
}

func newSupervisor(version string, k kernel) *supervisor {
	sv := &supervisor{
		version: version, kernel: k, pid: os.Getpid(), started: time.Now(), args: os.Args,
		registry: registry{}, dead: map[int]unix.WaitStatus{},
		events: events{packets: make(chan packetEvent), calls: make(chan func())},
	}
	sv.masters = masters{sv: sv, restarts: restarts{backoff: restartBackoff}}
	sv.front = front{sv: sv, statuses: statuses{answers: map[int64]*status.Status{}}}
	sv.reexec = reexecution{sv: sv, candidate: reexec.Candidate{Self: reexec.Stat("/proc/self/exe")}}
	sv.timer = time.NewTimer(0)
	sv.timer.Stop()
	return sv
}

// Run is the supervisor's life, in a program of a version. It returns the exit code when no process of the tree is
// left.
func Run(version string) int {
	if earlysignal.Check {
		if reexec.DryRun(func(b []byte) error { _, err := parseState(b); return err }) {
			return exitOK
		}
		return exitSystem
	}
	debug.SetGCPercent(gcPercent)
	sv := newSupervisor(version, linux{})
	sv.sink = logsink.NewForeground(2)
	defer sv.sink.Flush(lastWords)
	sv.log = logsink.Logger(sv.sink, wire.LogStyle{})
	sv.systemd = systemd.Open(systemd.Options{
		Log: sv.log, Later: func(f func()) { sv.events.calls <- f }, Sockets: sv.ownSockets,
	}.FromEnvironment())
	defer sv.systemd.Flush(lastWords)
	defer sv.front.close()
	worker.SetTitle(worker.RoleSupervisor, -1)
	if err := sv.begin(); err != nil {
		sv.log.Error("supervisor: start", "error", err)
		if errors.As(err, &systemd.AcceptError{}) {
			return exitUser
		}
		return exitSystem
	}
	return sv.loop()
}

// begin starts the first master, or resumes from the state of the executable before.
func (sv *supervisor) begin() error {
	signal.Ignore(syscall.SIGPIPE)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("subreaper: %w", err)
	}
	if earlysignal.State >= 0 {
		sv.events.signals, sv.events.children = earlysignal.Caught, earlysignal.Children
		return sv.reexec.resume(earlysignal.State)
	}
	if err := sv.takeActivated(); err != nil {
		return err
	}
	sv.tty = openTerminal(signal.Ignored(syscall.SIGHUP))
	sv.events.signals, sv.events.children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	sv.obeySignals()
	var err error
	if sv.dir, err = os.Getwd(); err != nil {
		sv.dir = "/"
	}
	if err := sv.registration.open(); err != nil {
		return err
	}
	go sv.readRegistrations()
	return sv.startMaster()
}

// loop is the only goroutine that touches sv after Run has begun.
func (sv *supervisor) loop() int {
	for {
		sv.schedule()
		select {
		case sig := <-sv.events.signals:
			sv.onSignal(sig)
		case <-sv.events.children:
			sv.reap()
		case ev := <-sv.events.packets:
			sv.onPacket(ev)
		case f := <-sv.events.calls:
			f()
		case <-sv.timer.C:
			sv.onTimer(time.Now())
		}
		sv.front.answer(time.Now())
		sv.startReload(time.Now())
		sv.reexec.try(time.Now())
		if sv.finished() {
			return sv.stopping.exit
		}
	}
}

// finished reports, and cleans up, when no process is left.
func (sv *supervisor) finished() bool {
	if !sv.stopping.begun() {
		return false
	}
	if !sv.reap() {
		sv.terminateOrphans(time.Now())
		return false
	}
	if sv.live > 0 { // the last message of a process that has exited may be a path that it has made
		return false
	}
	sv.dropListeners()
	for name := range sv.registry {
		sv.registry.drop(name)
	}
	return true
}

// deadlines are the moments at which onTimer has something to do; zero: not set.
func (sv *supervisor) deadlines() []time.Time {
	return []time.Time{
		sv.attemptBy, sv.oldBy, sv.restarts.at, sv.limiter.at, sv.front.at, sv.reexec.at,
		sv.stopping.killAt, sv.instances.killAt, sv.systemd.Next(),
	}
}

// schedule sets the timer to the earliest deadline.
func (sv *supervisor) schedule() {
	var next time.Time
	for _, t := range sv.deadlines() {
		next = earlier(next, t)
	}
	if next.IsZero() {
		sv.timer.Stop()
		return
	}
	sv.timer.Reset(time.Until(next))
}

// due reports whether a deadline has come, and clears it then.
func due(t *time.Time, now time.Time) bool {
	if t.IsZero() || now.Before(*t) {
		return false
	}
	*t = time.Time{}
	return true
}

// earlier returns the earlier of two moments, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (sv *supervisor) onTimer(now time.Time) {
	if due(&sv.attemptBy, now) {
		sv.attemptTimeout()
	}
	if due(&sv.oldBy, now) && sv.old != nil {
		sv.tooLate(sv.old)
	}
	if due(&sv.restarts.at, now) {
		sv.restartMaster()
	}
	due(&sv.front.at, now)   // answer and
	due(&sv.limiter.at, now) // startReload look by themselves
	if due(&sv.reexec.at, now) {
		sv.reexec.candidate.Kill(true) // if a dry run has had its time
	}
	sv.systemd.Tick(now, sv.isHealthy())
	if due(&sv.instances.killAt, now) {
		sv.signalInstances(unix.SIGKILL)
	}
	if due(&sv.stopping.killAt, now) {
		sv.killAll(sv.stopping.overdue())
	}
}

// isHealthy is false when nobody serves and nobody but systemd could help: all masters and all workers are dead,
// however often a master was started again. Workers without a master do serve; a restart of everything would end them.
func (sv *supervisor) isHealthy() bool {
	return sv.current != nil || sv.generation == 0 || sv.stopping.begun() || len(sv.registry.names(EntryWorker+"/")) > 0
}
