package keeper

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
	"baton/master/keeper/internal/early"
	"baton/worker"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// Exit codes of the keeper besides those of a first master that failed.
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

// DoorEnv names the descriptor on which a master that the keeper itself started finds the door.
const DoorEnv = "BATON_DOOR"

// DirEnv is the user's working directory. Masters are started in /, because every successor is started where the first
// master was, and that directory may be gone by then.
const DirEnv = "BATON_DIR"

// Options is what the keeper is told by the program that it is.
type Options struct {
	Version string
}

type keeper struct {
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

	store      store
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
	lastTimeouts wire.Preparing          // of the last master
	dead         map[int]unix.WaitStatus // workers that ended while there was no master: what they said last is still to be read

	control   *control.Server
	calls     chan func() // from the control socket: run on the loop
	questions []question
	statuses  map[int64]*wire.Status // that the master is asked for, by ID; nil: not answered yet
	lastQuery int64
	problems  map[string]string // for the status

	systemd systemd

	stopping    bool
	firstSignal time.Time // to stop
	dismissed   bool      // strangers have been told to end
	killing     bool
	exit        int // code

	follow follow

	timer *time.Timer // the one deadline, see deadlines
	dl    deadlines
}

// deadlines are the moments at which the keeper has to do something; zero: not set.
type deadlines struct {
	attempt, kill, old, reload, follow, watchdog, store time.Time

	restart time.Time // start a master, or give up the one that starts
	answer  time.Time // look at the questions
}

// Run is the keeper's life. It returns the exit code when no process of the tree is left.
func Run(opts Options) int {
	if early.Check {
		return dryRun(early.State)
	}
	sink := logsink.NewForeground(2)
	defer sink.Flush(200 * time.Millisecond)
	k := &keeper{
		opts: opts, sink: sink, log: logsink.Logger(sink, "text"), pid: os.Getpid(), started: time.Now(), args: os.Args,
		packets: make(chan packetEvent), store: store{}, follow: follow{self: statFile("/proc/self/exe")},
		dead: map[int]unix.WaitStatus{}, calls: make(chan func()), statuses: map[int64]*wire.Status{},
		backoff: restartBackoff,
	}
	debug.SetGCPercent(gcPercent)
	k.openSystemd()
	defer k.endSystemd()
	defer k.closeControl()
	worker.SetTitle(worker.RoleKeeper, -1)
	if err := k.begin(); err != nil {
		k.log.Error("keeper: start", "error", err)
		return startCode(err)
	}
	return k.loop()
}

// startCode is the exit code of a keeper that could not start.
func startCode(err error) int {
	if errors.As(err, &acceptedError{}) {
		return exitUser
	}
	return exitSystem
}

// begin starts the first master, or goes on where the keeper has left off that has executed us.
func (k *keeper) begin() error {
	k.timer = time.NewTimer(0)
	k.timer.Stop()
	signal.Ignore(syscall.SIGPIPE)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("subreaper: %w", err)
	}
	if early.State >= 0 {
		k.signals, k.children = early.Caught, early.Children
		return k.takeOver(early.State)
	}
	if err := k.takePassed(); err != nil {
		return err
	}
	if err := k.open(); err != nil {
		return err
	}
	return k.startMaster()
}

func (k *keeper) open() error {
	k.tty = openTerminal(signal.Ignored(syscall.SIGHUP))
	k.signals, k.children = make(chan os.Signal, 64), make(chan os.Signal, 1)
	k.obeySignals()
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	k.dir = dir
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("door: %w", err)
	}
	k.doorFD = theirs
	if k.door, err = seqpacket.New(ours); err != nil {
		return fmt.Errorf("door: %w", err)
	}
	go k.readDoor()
	return nil
}

// startMaster starts the first master, or one that takes the place of a crashed one: the executable of the last COMMIT,
// however broken the file at its path is by now.
func (k *keeper) startMaster() error {
	argv := append([]string{k.args[0], fmt.Sprintf("%s %d", worker.RoleMaster, max(1, k.generation))}, k.args[1:]...)
	pid, err := spawnFrom(k.exePath(), argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   masterEnv(os.Environ(), k.dir),
		Files: []uintptr{0, 1, 2, uintptr(k.doorFD)},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("start master: %w", err)
	}
	k.starting = &session{pid: pid, pidfd: -1, phase: phaseRestart}
	if k.generation == 0 {
		k.starting.phase = phaseFirst
	}
	return nil
}

// loop is the only goroutine that touches k after Run has begun.
func (k *keeper) loop() int {
	for {
		k.schedule()
		select {
		case sig := <-k.signals:
			k.onSignal(sig)
		case <-k.children:
			k.reap()
		case ev := <-k.packets:
			k.onPacket(ev)
		case f := <-k.calls:
			f()
		case <-k.timer.C:
			k.onTimer(time.Now())
		}
		k.answer(time.Now())
		k.startReload(time.Now())
		k.tryFollow(time.Now())
		if k.finished() {
			return k.exit
		}
	}
}

// finished reports, and cleans up, when no process is left.
func (k *keeper) finished() bool {
	if !k.stopping {
		return false
	}
	if !k.reap() {
		k.dismissStrangers(time.Now())
		return false
	}
	if k.live > 0 { // what the dead have said last may be a path that they have made
		return false
	}
	k.dropListeners()
	for name := range k.store {
		k.store.drop(name)
	}
	return true
}

// schedule sets the timer to the earliest deadline.
func (k *keeper) schedule() {
	var next time.Time
	for _, t := range []time.Time{k.dl.attempt, k.dl.kill, k.dl.old, k.dl.restart, k.dl.reload, k.dl.answer, k.dl.follow, k.dl.watchdog, k.dl.store} {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if next.IsZero() {
		k.timer.Stop()
		return
	}
	k.timer.Reset(time.Until(next))
}

// due reports whether a deadline has come, and clears it then.
func due(t *time.Time, now time.Time) bool {
	if t.IsZero() || now.Before(*t) {
		return false
	}
	*t = time.Time{}
	return true
}

func (k *keeper) onTimer(now time.Time) {
	if due(&k.dl.attempt, now) {
		k.attemptTimeout()
	}
	if due(&k.dl.old, now) && k.old != nil {
		k.tooLate(k.old)
	}
	if due(&k.dl.restart, now) {
		k.restartMaster()
	}
	due(&k.dl.answer, now) // answer and
	due(&k.dl.reload, now) // startReload look by themselves
	if due(&k.dl.follow, now) {
		k.onFollowTime()
	}
	if due(&k.dl.store, now) {
		k.syncStore()
	}
	if due(&k.dl.watchdog, now) {
		k.beat(now)
	}
	if due(&k.dl.kill, now) {
		why := "stop timeout"
		if k.dismissed {
			why = "it does not end"
		}
		k.killAll(why)
	}
}
