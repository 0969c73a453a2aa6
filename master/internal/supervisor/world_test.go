package supervisor

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/supervisor/reexec"
	"baton/master/internal/systemd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// world is a kernel whose processes the test plays, around a supervisor that runs, in virtual time.
type world struct {
	*supervisor
	t     *testing.T
	begun time.Time
	code  int
	done  chan struct{} // the supervisor has exited, with code

	mu     sync.Mutex
	last   int            // PID
	alive  map[int]bool   // processes; false: exited, and not reaped
	exits  []exit         // to be reaped
	starts []started      // masters that the supervisor has started
	killed map[int]string // when
	told   map[int]unix.Signal

	played []*played
}

type exit struct {
	pid int
	ws  unix.WaitStatus
}

type started struct {
	pid int
	at  time.Duration // since the world has begun
}

// inWorld runs a test with a supervisor that has started its first master. What is left of it is killed at the end.
func inWorld(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, begun: time.Now(), done: make(chan struct{}), last: 1 << 30,
			alive: map[int]bool{}, killed: map[int]string{}, told: map[int]unix.Signal{},
		}
		sv := newSupervisor("v", w)
		w.supervisor = sv
		sv.log, sv.args, sv.dir = slog.New(slog.DiscardHandler), []string{"/proc/self/exe"}, "/"
		sv.systemd = systemd.Open(systemd.Options{Log: sv.log})
		sv.events.signals, sv.events.children = make(chan os.Signal, 64), make(chan os.Signal, 1)
		if err := sv.startMaster(); err != nil {
			t.Fatal(err)
		}
		go func() { w.code = sv.loop(); close(w.done) }()
		test(w)
		w.end()
	})
}

// end stops everything, unless the test has, and returns the supervisor's exit code.
func (w *world) end() int {
	for _, p := range w.played {
		p.die(0)
	}
	w.on(func() { w.stop("test", false); w.killAll("the test is over") })
	<-w.done
	return w.code
}

func (w *world) start(string, []string, *syscall.ProcAttr) (pid int, err error) {
	pid = w.fork()
	w.starts = append(w.starts, started{pid, time.Since(w.begun)})
	return pid, nil
}

// fork makes a process.
func (w *world) fork() (pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	w.alive[w.last] = true
	return w.last
}

// exit ends a process.
func (w *world) exit(pid int, ws unix.WaitStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.alive[pid] {
		return
	}
	w.alive[pid] = false
	w.exits = append(w.exits, exit{pid, ws})
	select {
	case w.events.children <- syscall.SIGCHLD:
	default:
	}
}

func (w *world) wait() (pid int, ws unix.WaitStatus, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.exits) == 0 {
		if len(w.alive) == 0 {
			err = unix.ECHILD
		}
		return 0, 0, err
	}
	e := w.exits[0]
	w.exits = w.exits[1:]
	delete(w.alive, e.pid)
	return e.pid, e.ws, nil
}

func (w *world) isChild(pid int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, is := w.alive[pid]
	return is
}

func (w *world) instanceOf(int) (instance, bool)      { return instance{}, false }
func (w *world) signalGroup(pid int, sig unix.Signal) { w.signal(pid, sig) }

func (w *world) children() (all []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for pid := range w.alive {
		all = append(all, pid)
	}
	return all
}

// signal kills a process, with its end of the conversation; other signals are noted.
func (w *world) signal(pid int, sig unix.Signal) {
	w.mu.Lock()
	w.told[pid] = sig
	alive := w.alive[pid]
	if sig == unix.SIGKILL && alive {
		w.killed[pid] = time.Since(w.begun).String()
	}
	w.mu.Unlock()
	if sig == unix.SIGKILL {
		w.exit(pid, unix.WaitStatus(unix.SIGKILL))
		for _, p := range w.played {
			if p.pid == pid {
				p.hangUp()
			}
		}
	}
}

func (w *world) killAttempt(_ string, workers []int) {
	for _, pid := range workers {
		w.signal(pid, unix.SIGKILL)
	}
}

func (w *world) open(int) int                 { return -1 }
func (w *world) kill(int)                     {}
func (w *world) executable(int) reexec.FileID { return reexec.Stat(w.args[0]) }
func (w *world) isRunning(c *played) bool     { w.mu.Lock(); defer w.mu.Unlock(); return w.alive[c.pid] }

func (w *world) killedAt(c *played) string      { w.mu.Lock(); defer w.mu.Unlock(); return w.killed[c.pid] }
func (w *world) send(signals ...syscall.Signal) { w.t.Helper(); w.each(signals) }

func (w *world) each(signals []syscall.Signal) {
	for _, sig := range signals {
		w.events.signals <- sig
	}
	synctest.Wait()
}

// on runs something on the supervisor's loop, unless that has ended.
func (w *world) on(f func()) {
	done := make(chan struct{})
	select {
	case w.events.calls <- func() { f(); close(done) }:
		<-done
	case <-w.done:
	}
	synctest.Wait()
}

// pass lets time pass. What the test has looked at before may change then.
func (w *world) pass(d time.Duration) {
	w.on(func() {})
	time.Sleep(d)
	synctest.Wait()
}

// played is a master that the test plays: the conversation, as the supervisor sees it.
type played struct {
	w     *world
	pid   int
	says  chan seqpacket.Packet
	hears chan wire.Message
	ended atomic.Bool // the conversation
	c     *masterConn
}

// join lets a process say hello.
func (w *world) join(pid int, attempt string) *played {
	w.t.Helper()
	p := &played{w: w, pid: pid, says: make(chan seqpacket.Packet, 100), hears: make(chan wire.Message, 1000)}
	p.c = &masterConn{conn: p, pidfd: -1}
	w.played = append(w.played, p)
	w.on(func() { w.register(p.c, hello(attempt)) })
	return p
}

// startedMaster is the one that the supervisor has started last.
func (w *world) startedMaster() *played { return w.join(w.starts[len(w.starts)-1].pid, "") }

// served is the first master, which serves.
func (w *world) served() *played {
	p := w.startedMaster()
	p.say(message.Commit{})
	p.say(message.Serving{Workers: 2})
	p.heard()
	return p
}

// succeeded is a successor of the master, in a reload that somebody has asked for.
func (w *world) succeeded(master *played) *played {
	w.send(syscall.SIGHUP)
	master.say(message.Upgrading{Attempt: w.attempt.id})
	return w.join(w.fork(), w.attempt.id)
}

// say says m, if there is a conversation.
func (p *played) say(m wire.Message) {
	if !p.ended.Load() {
		p.says <- seqpacket.Packet{Frame: frame(m)}
	}
	synctest.Wait()
}

// hangUp ends the conversation. The process lives on.
func (p *played) hangUp() {
	if !p.ended.Swap(true) {
		close(p.says)
	}
}

// die ends the process as well.
func (p *played) die(ws unix.WaitStatus) {
	p.w.exit(p.pid, ws)
	p.hangUp()
	synctest.Wait()
}

// heard lists the kinds of what the master was told since it was asked last, without the registry.
func (p *played) heard() (all []string) {
	for len(p.hears) > 0 {
		kind := (<-p.hears).Kind()
		if !slices.Contains([]string{"item", "end", "exited", "welcome"}, kind) {
			all = append(all, kind)
		}
	}
	return all
}

func (p *played) Post(m wire.Message, _ ...int) error {
	select {
	case p.hears <- m:
	default:
	}
	return nil
}

func (p *played) Recv() (seqpacket.Packet, error) {
	packet, ok := <-p.says
	if !ok {
		return packet, io.EOF
	}
	return packet, nil
}

func (p *played) Close() error {
	p.hangUp()
	return nil
}

func (p *played) PeerPID() (int, error) { return p.pid, nil }
func (p *played) FD() (int, error)      { return 0, nil }
func (p *played) Idle() bool            { return true }
func (p *played) HungUp() bool          { return false }
func (p *played) Flush()                {}
func (p *played) StopReading()          {}
func (p *played) ResumeReading()        {}
