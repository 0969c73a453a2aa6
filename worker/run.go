package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/handover"
	"baton/worker/logsink"
	"baton/worker/ownfile"
	"baton/worker/seqpacket"
	"baton/worker/sock"
	"baton/worker/wire"
)

// controlFD is where a worker finds its control socket.
const controlFD = 3

// flushLimit is how long an exiting process waits for its last log lines to be read.
const flushLimit = 200 * time.Millisecond

// Exit codes of a worker process.
const (
	exitOK      = 0
	exitUser    = 100 // it was not started by a master
	exitSystem  = 111 // it could not start
	exitCrashed = 1   // Serve failed, or returned early
)

// Run serves w in a process that a master has started, until the worker has drained, and returns the exit code.
// It takes over the process's signals: only the supervisor obeys them.
func Run(w Worker) int {
	if !Spawned() {
		fmt.Fprintln(os.Stderr, "baton: a worker is started by a master, not by hand")
		return exitUser
	}
	DropSignals()
	sink := logsink.New(2)
	defer sink.Flush(flushLimit)
	log := logsink.Logger(sink, "text")

	unix.CloseOnExec(controlFD)
	conn, err := seqpacket.New(controlFD)
	if err != nil {
		log.Error("worker: no control socket; a worker is started by a master, not by hand", "error", err)
		return exitUser
	}
	env, err := receiveSetup(conn, sink)
	if errors.Is(err, io.EOF) {
		return exitOK // the attempt has failed already
	}
	if err != nil {
		log.Error("worker: setup", "error", err)
		return exitSystem
	}
	SetTitle(RoleWorker, env.slot)
	p := &process{env: env, conn: conn, sink: sink, served: make(chan error, 1), packets: make(chan seqpacket.Packet)}
	return p.run(w)
}

// DropSignals catches what a terminal, systemd or tini send to every process of the tree, and SIGPIPE, so that a write to a
// broken pipe fails and does not kill. Caught, not ignored: an ignored signal stays ignored in every program that a handler
// starts. Masters and workers call it; only the supervisor obeys.
func DropSignals() {
	drop := []os.Signal{
		syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTTIN,
		syscall.SIGPIPE,
	}
	if leaveTerminal() {
		drop = append(drop, syscall.SIGTTOU)
	} else {
		signal.Ignore(syscall.SIGTTOU)
	}
	signal.Notify(make(chan os.Signal, 1), drop...)
}

// leaveTerminal makes this process, and those that it starts, have no controlling terminal, and reports whether it has none.
// For it belongs to the background: with `stty tostop` the kernel would answer what it writes there with SIGTTOU, and do so
// for ever if that is caught.
func leaveTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.Is(err, unix.ENXIO)
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.IoctlSetInt(fd, unix.TIOCNOTTY, 0) == nil
}

// receiveSetup waits for the first message and makes an Env of it.
func receiveSetup(conn *seqpacket.Conn, sink *logsink.Sink) (*Env, error) {
	p, err := conn.Recv()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	if err := p.Frame.Check(); err != nil {
		return nil, err
	}
	var s wire.Setup
	if err := p.Frame.Into(&s); err != nil {
		return nil, err
	}
	want := len(s.Listeners) + 2
	if s.HangTimeout > 0 {
		want++
	}
	if len(p.FDs) != want {
		return nil, fmt.Errorf("setup: %d descriptors, want %d", len(p.FDs), want)
	}
	log := logsink.Logger(sink, s.LogFormat).With("generation", s.Generation, "slot", s.Slot)
	env := newEnv(s, log)
	env.tickets.set(s.Tickets)
	payload := p.TakeFD()
	defer func() { _ = unix.Close(payload) }()
	if env.payload, err = readMemory(payload, s.Payload); err != nil {
		return nil, fmt.Errorf("setup: payload: %w", err)
	}
	env.setHandover(handover.New(log))
	balance := p.TakeFD()
	defer func() { _ = unix.Close(balance) }()
	if env.balance, err = sock.OpenBalance(balance, s.Slot); err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	for _, l := range s.Listeners {
		env.addSocket(l, p.TakeFD())
	}
	if s.HangTimeout > 0 {
		env.heart.open(p.TakeFD(), s.Heart, s.HangTimeout)
	}
	for more := s.More; more; {
		if more, err = receiveSockets(conn, env); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// receiveSockets waits for more of the setup, and reports whether another message follows.
func receiveSockets(conn *seqpacket.Conn, env *Env) (more bool, err error) {
	p, err := conn.Recv()
	if err != nil {
		return false, err
	}
	defer p.Close()
	var s wire.Sockets
	if err := p.Frame.Into(&s); err != nil {
		return false, err
	}
	if len(p.FDs) != len(s.Listeners) {
		return false, fmt.Errorf("setup: %d descriptors more, want %d", len(p.FDs), len(s.Listeners))
	}
	for _, l := range s.Listeners {
		env.addSocket(l, p.TakeFD())
	}
	env.paths = append(env.paths, s.Paths...)
	return s.More, nil
}

// readMemory reads a memory file from its beginning, whatever offset its other holders have left.
func readMemory(fd, size int) ([]byte, error) {
	b := make([]byte, size)
	for n := 0; n < size; {
		m, err := unix.Pread(fd, b[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		n += m
	}
	return b, nil
}

// process is a running worker: the goroutine of run owns it.
type process struct {
	env     *Env
	conn    *seqpacket.Conn
	sink    *logsink.Sink
	served  chan error            // what Serve returned
	packets chan seqpacket.Packet // from the master; closed at end-of-file

	ready, granted, draining bool
	due                      bool // has answered as many requests as it may
}

func (p *process) run(w Worker) int {
	go p.serve(w)
	go p.receive()
	ready := p.env.ready
	beats := make(chan struct{})
	if p.env.heart.fd >= 0 {
		go p.env.heart.run(p.env, beats)
	}
	for {
		select {
		case <-ready:
			if err := p.env.unserved(); err != nil {
				return p.exit(err)
			}
			ready, p.ready = nil, true
			p.env.openHandover()
			p.sayTakes()
			_ = p.conn.Post(wire.Ready{})
		case <-p.env.Counters.Requests.reached:
			p.due = true
			p.sayDue()
		case <-beats:
			p.env.heart.beat()
		case err := <-p.served:
			return p.exit(err)
		case packet, ok := <-p.packets:
			if !ok && !p.granted {
				return exitOK // the attempt has failed; nothing was accepted
			}
			if !ok {
				p.packets = nil
				p.orphaned()
				continue
			}
			p.handle(&packet)
			packet.Close()
		}
	}
}

func (p *process) serve(w Worker) {
	p.served <- serve(p.env.ctx, w, p.env)
}

// serve makes an error of a panic.
func serve(ctx context.Context, w Worker, env *Env) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return w.Serve(ctx, env)
}

// receive reads the control socket until its end.
func (p *process) receive() {
	defer close(p.packets)
	for {
		packet, err := p.conn.Recv()
		if errors.Is(err, seqpacket.ErrCut) { // a socket more, or a log file: there is no room for it
			p.env.Log.Error("worker: control socket", "error", err)
			continue
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.env.Log.Error("worker: control socket", "error", err)
			}
			return
		}
		p.packets <- packet
	}
}

// sayDue asks the master for another worker in this one's place.
func (p *process) sayDue() {
	if p.due {
		_ = p.conn.Post(wire.Retire{Reason: wire.RetireRequests})
	}
}

// sayTakes says whose connections are taken here, so that others are told.
func (p *process) sayTakes() {
	takes, fd := p.env.handover.Takes()
	if fd < 0 {
		_ = p.conn.Post(takes)
		return
	}
	if err := p.conn.Post(takes, fd); err != nil {
		p.env.Log.Warn("worker: no connections are taken from others", "error", err)
	}
}

// orphanGrace is how long an orphan may take after its deadline to say what was cut.
const orphanGrace = time.Second

// orphaned: supervisor and masters are dead. Nobody is left who would tell this process to stop, kill it if it does not, or
// remove the paths of sockets. What the last drain said still holds, if it ends earlier.
func (p *process) orphaned() {
	p.env.Log.Warn("worker: supervisor and master are gone, stopping")
	for _, f := range append(p.env.paths, p.env.pidFile) {
		ownfile.Remove(f)
	}
	p.drain(wire.Drain{Deadline: monotonic() + p.env.stopTimeout, Stop: true})
	time.AfterFunc(time.Duration(p.env.stopTimeout)+orphanGrace, func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) })
}

func (p *process) handle(packet *seqpacket.Packet) {
	var err error
	switch packet.Frame.T {
	case wire.Go{}.Kind():
		var g wire.Go
		if err = packet.Frame.Into(&g); err == nil {
			p.env.pidFile = g.PIDFile
		}
		p.sayDue() // another master has come, perhaps
		p.sayTakes()
		if !p.granted {
			p.granted = true
			close(p.env.granted)
			if !p.draining {
				p.env.handover.Start()
			}
		}
	case wire.Drain{}.Kind():
		var d wire.Drain
		if err = packet.Frame.Into(&d); err == nil {
			p.drain(d)
		}
	case wire.Takers{}.Kind():
		var t wire.Takers
		if err = packet.Frame.Into(&t); err == nil {
			err = p.env.handover.SetTakers(t, packet.FDs)
			packet.FDs = nil
		}
	case wire.Share{}.Kind():
		var s wire.Share
		if err = packet.Frame.Into(&s); err == nil && !p.draining {
			p.env.share(s)
		}
	case wire.StatsRequest{}.Kind():
		var q wire.StatsRequest
		if err = packet.Frame.Into(&q); err == nil {
			_ = p.conn.Post(p.stats(q.ID))
		}
	case wire.Tickets{}.Kind():
		var t wire.Tickets
		if err = packet.Frame.Into(&t); err == nil {
			p.env.tickets.set(t.Keys)
		}
	case wire.AddSocket{}.Kind():
		var a wire.AddSocket
		if err = packet.Frame.Into(&a); err == nil {
			if fd := packet.TakeFD(); fd >= 0 {
				a.Listener.Additional = true
				p.env.addSocket(a.Listener, fd)
			}
		}
	case wire.RemoveSocket{}.Kind():
		var a wire.RemoveSocket
		if err = packet.Frame.Into(&a); err == nil {
			p.env.removeExtra(a.Key)
		}
	case wire.Listening{}.Kind():
		p.env.lookAgain()
	case wire.LogFile{}.Kind():
		if fd := packet.TakeFD(); fd >= 0 {
			p.sink.SetFD(fd)
		}
	}
	if err != nil {
		p.env.Log.Error("worker: message", "kind", packet.Frame.T, "error", err)
	}
}

func (p *process) stats(id int64) wire.Stats {
	c := p.env.Counters
	state := "ready"
	switch {
	case p.draining:
		state = "draining"
	case p.granted:
		state = "serving"
	case !p.ready:
		state = "starting"
	}
	st := wire.Stats{
		ID: id, State: state, Requests: c.Requests.Load(), Conns: c.Conns.Load(), Active: c.Active.Load(), Handed: p.handed(),
		AcceptPaused: p.env.gate.heldBecause(), IdleEvicted: c.Shed.Load(),
	}
	st.LogLost, st.LogError = p.sink.Missing()
	return st
}

func (p *process) handed() wire.HandoverCounts {
	c := &p.env.handover.Counts
	return wire.HandoverCounts{Given: c.Given.Load(), Kept: c.Kept.Load(), Taken: c.Taken.Load(), Refused: c.Refused.Load()}
}

// drain begins the drain, or moves its deadline closer.
func (p *process) drain(d wire.Drain) {
	e := p.env
	if !p.draining {
		e.handover.Stop() // before ctx ends: what was taken is counted among the open connections by then
	}
	if d.Stop {
		e.handover.Withdraw() // nobody serves it any longer than we do
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	left := time.Duration(d.Deadline - monotonic())
	deadline := time.Now().Add(left)
	if e.deadline.IsZero() || deadline.Before(e.deadline) {
		if !e.deadline.IsZero() {
			close(e.moved)
			e.moved = make(chan struct{})
		}
		e.deadline = deadline
		if e.cutTimer == nil {
			e.cutTimer = time.AfterFunc(left, e.cutNow)
		} else if e.cutTimer.Stop() {
			e.cutTimer.Reset(left)
		}
	}
	if d.Stop && !e.stop {
		e.stop = true
		close(e.stopping)
	}
	if p.draining {
		return
	}
	p.draining = true
	e.balance.Leave()
	p.stopListeners(d.Ends, d.Stop)
	e.cancel()
}

// stopListeners is called with env's lock held. At a stop all addresses end.
func (p *process) stopListeners(ends []string, all bool) {
	for i := range p.env.sockets {
		s := &p.env.sockets[i]
		s.drain(ends, all)
	}
}

// exit says goodbye. Serve has returned.
func (p *process) exit(err error) int {
	c := p.env.Counters
	open := c.Conns.Load() // the process ends, and they with it
	bye := wire.Bye{CutRequests: c.CutRequests.Load(), CutConns: c.CutConns.Load() + open, Requests: c.Requests.Load(), Handed: p.handed()}
	if bye.CutRequests+bye.CutConns > 0 {
		p.env.Log.Warn("worker: drain deadline cut", "requests", bye.CutRequests, "connections", bye.CutConns)
	}
	_ = p.conn.Post(bye)
	p.conn.Flush()
	if err == nil && !p.draining {
		err = errors.New("returned before it was told to drain")
	}
	if err != nil && !p.draining {
		p.env.Log.Error("worker: serve", "error", err)
		return exitCrashed
	}
	if err != nil {
		p.env.Log.Warn("worker: drain", "error", err)
	}
	return exitOK
}

// monotonic is the machine's monotonic clock in nanoseconds, on which processes agree.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
