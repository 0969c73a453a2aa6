package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/step"
	"baton/master/internal/supervisor"
	"baton/master/internal/upgrade"
	"baton/master/internal/watch"
	"baton/worker"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// flushLimit is how long an exiting master waits for its last log lines to be read.
const flushLimit = 200 * time.Millisecond

// master is owned by the goroutine of loop.
type master struct {
	opts       Options
	log        *slog.Logger
	sink       *logsink.Sink
	upg        *upgrade.Upgrader
	supervisor *seqpacket.Conn
	welcome    message.Welcome
	inherited  map[string]entry // of the registry, until they are used
	dir        string           // the user's
	args       []string         // as typed; os.Args are another's while a successor starts
	attempt    string           // of which reload this process is the successor

	cfg          Config
	sum          watch.Sum // of the files of cfg
	gen          int
	want         int          // slots
	grown        map[int]bool // slots that are new in this generation, and had no worker yet
	resized      int64        // requests of the supervisor's that are in want
	sockets      listen.Set
	createdPaths []wire.Path // files, by this process
	payload      int         // memory file
	balance      int         // the memory in which workers count what they accept
	tickets      ticketKeys  // none without a TLS listener
	logFD        int         // log file; -1: standard error
	files        files

	procs     map[int]*proc
	buried    map[int]bool // workers of ours that ended before known: the registry may still name them
	crashes   plan.Crashes
	counts    counts
	recycling plan.Recycling
	measureAt monotime.Time // the next look at the memory of the workers; 0: never
	hearts    map[int]int   // the memory files of the heartbeats, by generation

	listenAt monotime.Time // the next look at the heartbeats; 0: nobody is watched

	phase     phase
	cause     error         // in phaseFailed
	takersBy  monotime.Time // when a restarted master waits no more for its workers to say what they take
	upgrading string        // the attempt that runs
	warnings  warnings
	stopAt    monotime.Time // the deadline of a stop; 0 before one

	stopWatch context.CancelFunc

	loading sync.Mutex // Options.Load is called by one goroutine at a time, and not while os.Args are the successor's
	queries []*query
	oldest  int // the generation of the oldest worker, as the supervisor was told

	packets chan *seqpacket.Packet // of the supervisor; nil at end-of-file
	workers chan procEvent
	calls   chan func() // run on the loop
	signals chan os.Signal
	upgrade chan error // what has become of the successor
}

// entry is an entry of the supervisor's registry.
type entry struct {
	data string
	fd   int
}

// runMaster is a master's life.
func runMaster(opts Options) int {
	worker.DropSignals()
	step.At(step.Started)
	m := &master{
		opts: opts, phase: phasePreparing, inherited: map[string]entry{}, procs: map[int]*proc{},
		hearts: map[int]int{}, logFD: -1, payload: -1,
		packets: make(chan *seqpacket.Packet), workers: make(chan procEvent), calls: make(chan func()),
		signals: make(chan os.Signal, 1), upgrade: make(chan error, 1), attempt: os.Getenv(supervisor.AttemptEnv),
		args: os.Args,
	}
	m.sink = logsink.New(2)
	defer m.sink.Flush(flushLimit)
	m.log = logsink.Logger(m.sink, "text")
	signal.Notify(m.signals, syscall.SIGCHLD)
	m.dir, _ = os.Getwd()

	err := m.connect()
	if err == nil {
		err = m.prepare()
	}
	if err != nil {
		return m.giveUp(err)
	}
	return m.loop()
}

// connect says hello to the supervisor, and reads the registry.
func (m *master) connect() error {
	upg, door, err := upgrade.Open(supervisor.DoorEnv)
	if err != nil {
		return fmt.Errorf("master: %w", err)
	}
	m.upg = upg
	defer func() { _ = unix.Close(door) }()
	ours, theirs, err := seqpacket.Pair()
	if err != nil {
		return fmt.Errorf("master: %w", err)
	}
	hello, err := wire.Encode(message.Hello{Version: m.opts.Version, Attempt: m.attempt})
	if err == nil {
		err = unix.Sendmsg(door, hello, unix.UnixRights(theirs), nil, unix.MSG_NOSIGNAL)
	}
	_ = unix.Close(theirs)
	if err != nil {
		_ = unix.Close(ours)
		return fmt.Errorf("master: hello: %w", err)
	}
	if m.supervisor, err = seqpacket.New(ours); err != nil {
		return fmt.Errorf("master: %w", err)
	}
	return m.readWelcome()
}

// readWelcome waits for the supervisor's answer and the whole store.
func (m *master) readWelcome() error {
	for {
		p, err := m.supervisor.Recv()
		if err != nil {
			return fmt.Errorf("master: welcome: %w", err)
		}
		done, err := m.onWelcome(&p)
		p.Close()
		if done || err != nil {
			return err
		}
	}
}

func (m *master) onWelcome(p *seqpacket.Packet) (done bool, err error) {
	if err := p.Frame.Check(); err != nil {
		return true, err
	}
	switch p.Frame.T {
	case message.Welcome{}.Kind():
		err = p.Frame.Into(&m.welcome)
	case message.Refused{}.Kind():
		var r message.Refused
		err = errors.Join(p.Frame.Into(&r), fmt.Errorf("master: the supervisor refused: %s", r.Error))
	case message.Item{}.Kind():
		m.addInherited(p)
	case message.End{}.Kind():
		return true, nil
	}
	return false, err
}

func (m *master) addInherited(p *seqpacket.Packet) {
	var it message.Item
	if err := p.Frame.Into(&it); err != nil {
		m.log.Error("master: registry", "error", err)
		return
	}
	fd := -1
	if it.HasFD {
		fd = p.TakeFD()
	}
	if old, ok := m.inherited[it.Name]; ok && old.fd >= 0 {
		_ = unix.Close(old.fd)
	}
	m.inherited[it.Name] = entry{data: it.Data, fd: fd}
}

// claim gives an entry to the caller; fd is -1 where there is none.
func (m *master) claim(name string) (entry, bool) {
	it, ok := m.inherited[name]
	delete(m.inherited, name)
	if !ok {
		it.fd = -1
	}
	return it, ok
}

// store puts an entry into the supervisor's registry: v as a line of JSON unless it is a string, and a duplicate of fd unless
// that is -1.
func (m *master) store(name string, v any, fd int) { m.put(message.Put{Name: name}, v, fd) }

func (m *master) put(p message.Put, v any, fd int) {
	if m.phase == phaseOrphaned {
		return // nobody keeps anything any more
	}
	m.createdPaths = append(m.createdPaths, p.Unlink, p.Undo)
	if s, ok := v.(string); ok {
		p.Data = s
	} else if b, err := wire.Marshal(v); err == nil {
		p.Data = string(b)
	}
	var err error
	if fd >= 0 {
		err = m.supervisor.Post(p, fd)
	} else {
		err = m.supervisor.Post(p)
	}
	if err != nil {
		m.log.Error("master: registry", "entry", p.Name, "error", err)
	}
}

// giveUp ends a master that has not taken over.
func (m *master) giveUp(err error) int {
	m.abandon()
	if m.supervisor != nil && m.supervisor.HungUp() { // else it does it
		m.removePaths()
	}
	code := exitCode(err)
	if m.welcome.Role != message.RoleSuccessor { // of which the supervisor says it
		m.sink.Flush(flushLimit)
		fmt.Fprintln(os.Stderr, m.opts.explain(err))
	}
	if m.supervisor != nil {
		_ = m.supervisor.Post(message.Fail{Error: m.opts.reason(err), Code: code})
		m.supervisor.Flush()
	}
	return code
}

// abandon ends the workers of a master that gives up: end-of-file tells them, they have accepted nothing.
func (m *master) abandon() {
	for _, p := range m.procs {
		if p.conn != nil && p.own {
			_ = unix.Kill(p.PID, unix.SIGKILL)
		}
	}
	for _, p := range m.procs {
		if p.own {
			var ws unix.WaitStatus
			_, _ = unix.Wait4(p.PID, &ws, 0, nil)
		}
	}
}
