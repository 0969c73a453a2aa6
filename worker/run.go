package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"baton/worker/logsink"
	"baton/worker/ownfile"
	"baton/worker/seqpacket"
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
	log := logsink.Logger(sink, wire.LogStyle{})

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
	p := &process{env: env, conn: conn, sink: sink}
	return p.run(w)
}

// process is a running worker: the goroutine of run owns it.
type process struct {
	env  *Env
	conn *seqpacket.Conn
	sink *logsink.Sink

	phase    phase
	code     int              // of the exit, when phase is phaseDone
	retiring bool             // it has answered as many requests as it may
	packet   seqpacket.Packet // that is obeyed: handlers take its descriptors
}

// run obeys the master until the Worker has ended, or the master has before GO.
func (p *process) run(w Worker) int {
	returned := make(chan error, 1)
	go func() { returned <- serve(p.env.ctx, w, p.env) }()
	packets := make(chan seqpacket.Packet) // closed at end-of-file
	go p.receive(packets)
	beats := p.env.heartbeat.start(p.env)
	ready, retire := p.env.ready, p.env.Counters.Requests.reached
	for p.phase != phaseDone {
		select {
		case <-ready:
			ready = nil
			p.onReady()
		case <-retire:
			retire, p.retiring = nil, true
			p.askToRetire()
		case <-beats:
			p.env.heartbeat.beat()
		case err := <-returned:
			p.onReturned(err)
		case packet, ok := <-packets:
			if !ok {
				packets = nil
				p.onEOF()
				continue
			}
			p.handle(packet)
		}
	}
	return p.code
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
func (p *process) receive(packets chan<- seqpacket.Packet) {
	defer close(packets)
	for {
		packet, err := p.conn.Recv()
		switch {
		case err == nil:
			packets <- packet
		case errors.Is(err, io.EOF):
			return
		default:
			p.env.Log.Error("worker: control socket", "error", err)
			if !errors.Is(err, seqpacket.ErrCut) { // a socket more, or a log file: there is no room for it
				return
			}
		}
	}
}

// move goes to the phase that follows on e, and returns the one before.
func (p *process) move(e event) (from phase) {
	from = p.phase
	p.phase = next[from][e]
	return from
}

func (p *process) onReady() {
	if err := p.env.unserved(); err != nil {
		p.onReturned(err)
		return
	}
	p.move(eventReady)
	p.env.openHandover()
	p.postTakes()
	_ = p.conn.Post(wire.Ready{})
}

// onReturned says goodbye: Serve has returned.
func (p *process) onReturned(err error) {
	c, drained := p.env.Counters, p.env.draining()
	if err == nil && !drained {
		err = errors.New("returned before it was told to drain")
	}
	bye := wire.Bye{
		Failure:     reason(err),
		CutRequests: c.CutRequests.Load(),
		CutConns:    c.CutConns.Load() + c.Conns.Load(), // what is open ends with the process
		Requests:    c.Requests.Load(), Handed: p.handed(),
	}
	if bye.CutRequests+bye.CutConns > 0 {
		p.env.Log.Warn("worker: drain deadline cut", "requests", bye.CutRequests, "connections", bye.CutConns)
	}
	_ = p.conn.Post(bye)
	p.conn.Flush()
	p.move(eventReturned)
	switch {
	case err == nil:
	case drained:
		p.env.Log.Warn("worker: drain", "error", err)
	default:
		p.env.Log.Error("worker: serve", "error", err)
		p.code = exitCrashed
	}
}

// maxReason is how many bytes of an error the master is told.
const maxReason = 8 << 10

// reason is what the master is told of an error, and the user of a reload that fails for it. An error with a Reason
// says it without what was wrapped around it.
func reason(err error) string {
	if err == nil {
		return ""
	}
	text := "worker: " + err.Error()
	var own interface{ Reason() string }
	if errors.As(err, &own) {
		text = own.Reason()
	}
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

// orphanGrace is how long a worker without a master may take after its deadline to say what was cut.
const orphanGrace = time.Second

// onEOF obeys the death of supervisor and masters. After GO nobody is left who would tell this process to stop, kill
// it if it does not, or remove the paths of sockets. What the last drain said still holds, if it ends earlier.
func (p *process) onEOF() {
	if p.move(eventEOF); p.phase == phaseDone {
		return
	}
	p.env.Log.Warn("worker: supervisor and master are gone, stopping")
	for _, f := range append(p.env.paths, p.env.pidFile) {
		ownfile.Remove(f)
	}
	p.env.drain(wire.Drain{Deadline: monotonic() + p.env.stopTimeout, Stop: true})
	time.AfterFunc(time.Duration(p.env.stopTimeout)+orphanGrace, func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) })
}

// askToRetire asks the master for another worker in this one's place.
func (p *process) askToRetire() {
	if p.retiring {
		_ = p.conn.Post(wire.Retire{Reason: wire.RetireRequests})
	}
}

// postTakes says whose connections are taken here, so that others are told.
func (p *process) postTakes() {
	takes, fds := p.env.handover.Takes()
	if err := p.conn.Post(takes, fds...); err != nil {
		p.env.Log.Warn("worker: no connections are taken from others", "error", err)
	}
}

// monotonic is the machine's monotonic clock in nanoseconds, on which processes agree.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
