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

	"baton/master/internal/backoff"
	"baton/master/internal/control"
	"baton/master/internal/message"
	"baton/master/internal/status"
	"baton/master/internal/supervisor/earlysignal"
	"baton/worker"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
)

// Exit codes of the supervisor besides those of a first master that failed.
const (
	exitOK     = 0
	exitUser   = 100
	exitSystem = 111
)

// Until a master has said its config's timeouts, these hold.
const (
	defaultReady = 10 * time.Second
	defaultStop  = 8 * time.Second
	defaultDrain = 90 * time.Second
)

// gcPercent keeps the heap of a process that does little as small as it is: with Go's default nothing is collected below
// 4 MB.
const gcPercent = 25

// DoorEnv names the descriptor on which a master that the supervisor itself started finds the door.
const DoorEnv = "BATON_DOOR"

// DirEnv is the user's working directory. Masters are started in /, because every successor is started where the first
// master was, and that directory may be gone by then.
const DirEnv = "BATON_DIR"

// Options is what the supervisor is told by the program that it is.
type Options struct {
	Version string
}

type supervisor struct {
	opts    Options
	log     *slog.Logger
	sink    *logsink.Sink
	pid     int
	started time.Time
	args    []string // as typed, with an absolute path first
	dir     string
	tty     *terminal

	door       *seqpacket.Conn // our end
	doorFD     int             // the masters' end, raw
	packets    chan packetEvent
	doorPaused bool // nobody reads it, see pauseReaders
	doorBroken bool // nobody will
	signals    chan os.Signal
	children   chan os.Signal // CHLD, with room for one: it says only that it is time to reap

	registry   registry
	current    *session // the master; nil while there is none
	old        *session // superseded, not gone yet
	starting   *session // a master that we have started, and that has not taken over yet; without a conn until its hello
	live       int      // sessions whose end has not been read
	leaving    []int    // PIDs of masters whose session has ended, and who have not been reaped yet
	generation int      // committed
	size       int      // workers of it, as the master says
	attempt    *attempt
	attempts   int64 // how many there were
	count      int64 // reload requests
	served     int64 // those that an attempt has served
	results    []result
	forgotten  int64     // the last request whose result is no longer kept
	moved      time.Time // the last step of a reload or a restart
	pace       pace
	resizes    []*resizing // that no master has answered
	resizeSeq  int64
	reopen     bool // the next master is to open its log anew: somebody has asked for it in the middle of a reload

	backoff      backoff.Backoff
	deaths       int    // of masters, since the last one that served
	lastDeath    string // how
	lost         int    // the PID of that master
	restarts     int64
	masterSince  time.Time               // no master has died since
	lastTimeouts message.Preparing       // of the last master
	dead         map[int]unix.WaitStatus // workers that ended while there was no master: what they said last is still to be read

	control   *control.Server
	calls     chan func() // from the control socket: run on the loop
	questions []question
	statuses  map[int64]*status.Status // that the master is asked for, by ID; nil: not answered yet
	lastQuery int64
	problems  map[string]string // for the status

	systemd systemd

	stopping          bool
	firstSignal       time.Time // to stop
	orphansTerminated bool      // orphans have been told to end
	killing           bool
	exit              int // code

	follow follow

	timer *time.Timer // the one deadline, see deadlines
	dl    deadlines
}

// deadlines are the moments at which the supervisor has to do something; zero: not set.
type deadlines struct {
	attempt, kill, old, reload, follow, watchdog, store time.Time

	restart time.Time // start a master, or give up the one that starts
	answer  time.Time // look at the questions
}

// Run is the supervisor's life. It returns the exit code when no process of the tree is left.
func Run(opts Options) int {
	if earlysignal.Check {
		return dryRun(earlysignal.State)
	}
	sink := logsink.NewForeground(2)
	defer sink.Flush(200 * time.Millisecond)
	sv := &supervisor{
		opts: opts, sink: sink, log: logsink.Logger(sink, "text"), pid: os.Getpid(), started: time.Now(), args: os.Args,
		packets: make(chan packetEvent), registry: registry{}, follow: follow{self: statFile("/proc/self/exe")},
		dead: map[int]unix.WaitStatus{}, calls: make(chan func()), statuses: map[int64]*status.Status{},
		backoff: restartBackoff,
	}
	debug.SetGCPercent(gcPercent)
	sv.openSystemd()
	defer sv.endSystemd()
	defer sv.closeControl()
	worker.SetTitle(worker.RoleSupervisor, -1)
	if err := sv.begin(); err != nil {
		sv.log.Error("supervisor: start", "error", err)
		return startCode(err)
	}
	return sv.loop()
}

// startCode is the exit code of a supervisor that could not start.
func startCode(err error) int {
	if errors.As(err, &acceptedError{}) {
		return exitUser
	}
	return exitSystem
}

// begin starts the first master, or goes on where the supervisor has left off that has executed us.
func (sv *supervisor) begin() error {
	sv.timer = time.NewTimer(0)
	sv.timer.Stop()
	signal.Ignore(syscall.SIGPIPE)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("subreaper: %w", err)
	}
	if earlysignal.State >= 0 {
		sv.signals, sv.children = earlysignal.Caught, earlysignal.Children
		return sv.takeOver(earlysignal.State)
	}
	if err := sv.takePassed(); err != nil {
		return err
	}
	if err := sv.open(); err != nil {
		return err
	}
	return sv.startMaster()
}

func (sv *supervisor) open() error {
	sv.tty = openTerminal(signal.Ignored(syscall.SIGHUP))
	sv.signals, sv.children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	sv.obeySignals()
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	sv.dir = dir
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("door: %w", err)
	}
	sv.doorFD = theirs
	if sv.door, err = seqpacket.New(ours); err != nil {
		return fmt.Errorf("door: %w", err)
	}
	go sv.readDoor()
	return nil
}

// startMaster starts the first master, or one that takes the place of a crashed one: the executable of the last COMMIT,
// however broken the file at its path is by now.
func (sv *supervisor) startMaster() error {
	argv := append([]string{sv.args[0], fmt.Sprintf("%s %d", worker.RoleMaster, max(1, sv.generation))}, sv.args[1:]...)
	pid, err := spawnFrom(sv.exePath(), argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   masterEnv(os.Environ(), sv.dir),
		Files: []uintptr{0, 1, 2, uintptr(sv.doorFD)},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("start master: %w", err)
	}
	sv.starting = &session{pid: pid, pidfd: -1, phase: phaseRestart}
	if sv.generation == 0 {
		sv.starting.phase = phaseFirst
	}
	return nil
}

// loop is the only goroutine that touches sv after Run has begun.
func (sv *supervisor) loop() int {
	for {
		sv.schedule()
		select {
		case sig := <-sv.signals:
			sv.onSignal(sig)
		case <-sv.children:
			sv.reap()
		case ev := <-sv.packets:
			sv.onPacket(ev)
		case f := <-sv.calls:
			f()
		case <-sv.timer.C:
			sv.onTimer(time.Now())
		}
		sv.answer(time.Now())
		sv.startReload(time.Now())
		sv.tryFollow(time.Now())
		if sv.finished() {
			return sv.exit
		}
	}
}

// finished reports, and cleans up, when no process is left.
func (sv *supervisor) finished() bool {
	if !sv.stopping {
		return false
	}
	if !sv.reap() {
		sv.terminateOrphans(time.Now())
		return false
	}
	if sv.live > 0 { // what the dead have said last may be a path that they have made
		return false
	}
	sv.dropListeners()
	for name := range sv.registry {
		sv.registry.drop(name)
	}
	return true
}

// schedule sets the timer to the earliest deadline.
func (sv *supervisor) schedule() {
	var next time.Time
	for _, t := range []time.Time{sv.dl.attempt, sv.dl.kill, sv.dl.old, sv.dl.restart, sv.dl.reload, sv.dl.answer, sv.dl.follow, sv.dl.watchdog, sv.dl.store} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
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

func (sv *supervisor) onTimer(now time.Time) {
	if due(&sv.dl.attempt, now) {
		sv.attemptTimeout()
	}
	if due(&sv.dl.old, now) && sv.old != nil {
		sv.tooLate(sv.old)
	}
	if due(&sv.dl.restart, now) {
		sv.restartMaster()
	}
	due(&sv.dl.answer, now) // answer and
	due(&sv.dl.reload, now) // startReload look by themselves
	if due(&sv.dl.follow, now) {
		sv.onFollowTime()
	}
	if due(&sv.dl.store, now) {
		sv.syncStore()
	}
	if due(&sv.dl.watchdog, now) {
		sv.beat(now)
	}
	if due(&sv.dl.kill, now) {
		why := "stop timeout"
		if sv.orphansTerminated {
			why = "it does not end"
		}
		sv.killAll(why)
	}
}
