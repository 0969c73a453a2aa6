package master

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"baton/master/internal/failpoint"
	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/supervisor"
	"baton/worker"
	"baton/worker/logsink"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// flushLimit is how long an exiting master waits for its last log lines to be read.
const flushLimit = 200 * time.Millisecond

// master is owned by the goroutine of loop.
type master struct {
	opts    Options
	welcome message.Welcome
	loader  loader
	logging
	origin
	registry
	reload
	inbox
	progress

	cfg     Config
	gen     int
	sockets listen.Set
	payload int        // memory file
	balance int        // the memory in which workers count what they accept
	tickets ticketKeys // none without a TLS listener
	files   files
	size

	pool
	heartbeats heartbeats
	crashes    plan.Crashes
	recycling  plan.Recycling
	counts     counts
	told       int // the generation of the oldest worker, as the supervisor was told
	queries    queries
}

// inbox is how the loop hears of events.
type inbox struct {
	events   chan func()    // the loop calls them
	children chan os.Signal // one of them may have exited
	quit     chan struct{}  // closed when the loop has ended
}

// send has the loop call f, unless it has ended.
func (i inbox) send(f func()) {
	select {
	case i.events <- f:
	case <-i.quit:
	}
}

// runMaster is a master's life. It returns the exit code.
func runMaster(opts Options) int {
	worker.DropSignals()
	failpoint.Hit(failpoint.Started)
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
	m := &master{
		opts: opts, payload: -1,
		logging:    logging{log: logsink.Logger(sink, wire.LogStyle{}), sink: sink, logFD: -1},
		origin:     origin{args: os.Args},
		progress:   progress{phase: phasePreparing},
		inbox:      inbox{make(chan func()), make(chan os.Signal, 1), make(chan struct{})},
		heartbeats: heartbeats{files: map[int]int{}},
	}
	m.loader.load = opts.Load
	m.inherited = map[string]entry{}
	m.failed = func(entry string, err error) { m.log.Error("master: registry", "entry", entry, "error", err) }
	m.pool = pool{sys: sys, reg: &m.registry, procs: map[int]*proc{}, gonePIDs: map[int]bool{}}
	return m
}

// run returns when the process must exit, with an error if it has not become the master.
func (m *master) run() (err error) {
	defer close(m.quit)
	m.supervisor, m.upg, err = m.sys.hello(message.Hello{Version: m.opts.Version, Attempt: m.attempt})
	if err != nil {
		return fmt.Errorf("master: %w", err)
	}
	defer m.supervisor.Flush()
	if m.welcome, err = m.readWelcome(); err == nil {
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
	return err
}

// loop owns the state, from when this process has started its workers until it must exit. It returns why this process
// has not become the master.
func (m *master) loop() error {
	go m.readSupervisor()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.checkReady()
		next := m.reconcile(monotime.Now())
		if m.phase.isOver() {
			return m.cause
		}
		if timer.Stop(); next != 0 {
			timer.Reset(next.Sub(monotime.Now()))
		}
		select {
		case f := <-m.events:
			f()
		case <-m.children:
			m.reap()
		case <-timer.C:
		}
	}
}

// reconcile does what must be done about the workers, and returns when to do so again if nothing happens before.
func (m *master) reconcile(now monotime.Time) (next monotime.Time) {
	limit := m.cfg.MaxMemory
	if m.phase != phaseCurrent {
		limit = 0
	}
	if m.measure(m.gen, limit, now) {
		m.recycling.MemorySuffices(now)
	}
	if missed := m.heartbeats.check(now, m.procs); missed > 0 {
		m.log.Warn("master: was not running, every worker gets a full hang_timeout",
			"for", missed.Round(time.Millisecond))
	}
	next = m.carryOut(now)
	if err := m.shareOut(m.view(now)); err != nil {
		m.log.Warn("master: share", "error", err)
	}
	if len(m.procs) == 0 {
		m.enter(eventEmpty)
	}
	m.tellOldest()
	return monotime.Earliest(m.checkTickets(next), m.checkQueries(now), m.checkSockets(now), m.measureAt,
		m.heartbeats.next)
}

// carryOut does what the plan says until it says nothing more: only then does it know of the deadlines of what was
// done.
func (m *master) carryOut(now monotime.Time) (next monotime.Time) {
	for {
		todo, next := m.plan(now)
		m.tellTakers() // before a worker drains that others give connections to
		if len(todo) == 0 {
			return next
		}
		for _, a := range todo {
			m.apply(a)
		}
	}
}

// plan returns what must be done about the workers, and when to ask again. Before COMMIT they must be READY in time;
// a restarted master does nothing before it was told which workers there are.
func (m *master) plan(now monotime.Time) (todo []plan.Action, next monotime.Time) {
	switch {
	case !m.phase.isMaster():
		p, next := m.view(now).Late()
		if p != nil {
			late := fmt.Errorf("worker %d (pid %d): not ready within %v", p.Slot, p.PID, m.cfg.readyTimeout())
			m.fails(eventUnready, late)
		}
		return nil, next
	case !m.phase.isAlone() && m.welcome.Role == message.RoleRestart:
		return nil, 0
	}
	return m.view(now).Plan()
}

// view is what a plan is made from.
func (m *master) view(now monotime.Time) plan.View {
	v := plan.View{
		Now: now, Generation: m.gen, Slots: m.desired, StopAt: m.stopAt,
		Reloading:    m.upgrading != "" || !m.phase.isAlone(),
		DrainTimeout: m.cfg.drainTimeout(), ReadyTimeout: m.cfg.readyTimeout(), MaxAge: m.cfg.MaxAge,
		DrainFrom: m.drainFrom(m.gen), MaxGenerations: m.cfg.maxGenerations(),
		Crashes: m.crashes, Recycling: m.recycling,
	}
	for _, p := range m.procs {
		v.Workers = append(v.Workers, p.Worker)
	}
	return v
}

func (m *master) tellTakers() {
	if m.phase.isStopping() {
		return
	}
	if err := m.pool.tellTakers(m.view(monotime.Now())); err != nil {
		m.log.Warn("master: takers", "error", err)
	}
}

// tellOldest tells the supervisor which generation the oldest worker is of; `reload --wait` waits for older ones to
// exit.
func (m *master) tellOldest() {
	if !m.phase.isAlone() || m.phase.isOver() {
		return // the predecessor's workers are not known yet, or not ours any more
	}
	if oldest := m.oldest(m.gen); oldest != m.told {
		m.told = oldest
		_ = m.supervisor.Post(message.Oldest{Generation: oldest})
	}
}

// serving tells the supervisor, and through it systemd, that connections are served from now on.
func (m *master) serving() { _ = m.supervisor.Post(message.Serving{Workers: m.desired}) }

// readSupervisor turns what the supervisor says into events.
func (m *master) readSupervisor() {
	for {
		p, err := m.supervisor.Recv()
		switch {
		case errors.Is(err, seqpacket.ErrCut):
			m.send(func() { m.outOfFiles(err) })
		case err != nil:
			m.send(m.onHungUp)
			return
		default:
			m.send(func() { m.onSupervisor(&p) })
		}
	}
}

// handlers are those of the supervisor's messages. A message that is not there is dropped: it may be a newer release's.
var handlers = map[string]func(*master, *seqpacket.Packet) error{
	message.Committed{}.Kind(): on((*master).onCommitted),
	message.Refused{}.Kind(): on(func(m *master, r message.Refused) {
		m.fails(eventRefused, errors.New("master: COMMIT refused: "+r.Error))
	}),
	message.Superseded{}.Kind(): on(func(m *master, _ message.Superseded) { m.enter(eventSuperseded) }),
	// The workers follow, as they are now.
	message.TakeoverComplete{}.Kind(): on(func(m *master, _ message.TakeoverComplete) { m.discardWorkers() }),
	message.Item{}.Kind():             func(m *master, p *seqpacket.Packet) error { return m.addInherited(p) },
	message.End{}.Kind():              on((*master).onEnd),
	message.Stop{}.Kind():             on((*master).onStop),
	message.Reload{}.Kind():           on((*master).onReload),
	message.Resize{}.Kind():           on((*master).onResize),
	message.Reopen{}.Kind():           on((*master).onReopen),
	message.Compare{}.Kind():          on((*master).onCompare),
	message.StatusRequest{}.Kind():    on(func(m *master, r message.StatusRequest) { m.queries.ask(r.ID, m.procs) }),
	message.Exited{}.Kind():           on((*master).onExited),
}

// on makes a handler of a method.
func on[M wire.Message](do func(*master, M)) func(*master, *seqpacket.Packet) error {
	return func(m *master, p *seqpacket.Packet) error {
		return wire.On(p.Frame, func(msg M) { do(m, msg) })
	}
}

func (m *master) onSupervisor(p *seqpacket.Packet) {
	defer p.Close()
	handle := handlers[p.Frame.T]
	if handle == nil {
		return
	}
	if err := handle(m, p); err != nil {
		m.log.Error("master: message of the supervisor", "kind", p.Frame.T, "error", err)
	}
}

// giveUp ends a process that has not become the master.
func (m *master) giveUp(err error) {
	m.killOwn()
	if m.supervisor.HungUp() { // otherwise the supervisor removes them
		m.removePaths()
	}
	_ = m.supervisor.Post(message.Fail{Error: m.opts.reason(err), Code: exitCode(err)})
}

// end is the last act of a process that was the master. A superseded one reads nothing more from its workers, so that
// its successor misses nothing, and says so: the exit itself may take much longer, for the kernel waits when a change
// notification is closed.
func (m *master) end() {
	if m.phase == phaseStopped {
		if m.supervisor.HungUp() { // otherwise the supervisor removes them
			m.removePaths()
		}
		return
	}
	for _, p := range m.procs {
		if !p.eof {
			p.conn.StopReading()
		}
	}
	for _, p := range m.procs {
		for !p.eof {
			(<-m.events)()
		}
	}
	_ = m.supervisor.Post(message.Leaving{})
}
