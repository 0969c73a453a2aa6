package master

import (
	"baton/master/internal/supervisor"
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
	sys        system
	upg        upgrader
	supervisor link
	welcome    message.Welcome
	inherited  map[string]entry // of the store, until they are used
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

	events   chan func()    // run on the loop
	children chan os.Signal // one of them may have exited
	quit     chan struct{}  // closed when the loop has ended
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
	sink := logsink.New(2)
	m := newMaster(opts, linux{}, sink)
	m.attempt = os.Getenv(supervisor.AttemptEnv)
	m.dir, _ = os.Getwd()
	signal.Notify(m.children, syscall.SIGCHLD)
	err := m.run()
	sink.Flush(flushLimit)
	if err == nil {
		return exitOK
	}
	if m.welcome.Role != message.RoleSuccessor { // the supervisor reports the failure of one
		fmt.Fprintln(os.Stderr, opts.explain(err))
	}
	return exitCode(err)
}

func newMaster(opts Options, sys system, sink *logsink.Sink) *master {
	return &master{
		opts: opts, sys: sys, sink: sink, log: logsink.Logger(sink, "text"), args: os.Args, phase: phasePreparing,
		inherited: map[string]entry{}, procs: map[int]*proc{},
		hearts: map[int]int{}, logFD: -1, payload: -1,
		events: make(chan func()), children: make(chan os.Signal, 1), quit: make(chan struct{}),
	}
}

// run returns when the process must exit, with an error if it has not become the master.
func (m *master) run() error {
	defer close(m.quit)
	err := m.connect()
	if err == nil {
		err = m.prepare()
	}
	if err == nil {
		err = m.loop()
	}
	if err != nil {
		m.giveUp(err)
	} else {
		m.end()
	}
	if m.supervisor != nil {
		m.supervisor.Flush()
	}
	return err
}

// send has the loop call f, unless it has ended.
func (m *master) send(f func()) {
	select {
	case m.events <- f:
	case <-m.quit:
	}
}

// connect says hello to the supervisor, and reads the store.
func (m *master) connect() (err error) {
	m.supervisor, m.upg, err = m.sys.hello(message.Hello{Version: m.opts.Version, Attempt: m.attempt})
	if err != nil {
		m.supervisor = nil
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
func (m *master) giveUp(err error) {
	m.abandon()
	if m.supervisor == nil {
		return
	}
	if m.supervisor.HungUp() { // otherwise the supervisor removes them
		m.removePaths()
	}
	_ = m.supervisor.Post(message.Fail{Error: m.opts.reason(err), Code: exitCode(err)})
}

// abandon ends the workers of a master that gives up. They have accepted nothing.
func (m *master) abandon() {
	for _, p := range m.procs {
		if p.own {
			m.sys.kill(p.PID)
		}
	}
	for _, p := range m.procs {
		if p.own {
			m.sys.wait(p.PID, 0)
		}
	}
}
