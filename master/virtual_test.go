package master

import (
	"context"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"baton/master/internal/message"

	"golang.org/x/sys/unix"

	"baton/master/internal/spawn"
	"baton/master/internal/supervisor"
	"baton/worker/logsink"
	"baton/worker/rawfd"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// nowhere takes the log of all virtual masters. Its goroutine belongs to none of their bubbles.
var nowhere = func() *logsink.Sink {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	return logsink.New(fd)
}()

// pipeEnd is one end of a conversation in memory.
type pipeEnd struct {
	in, out chan seqpacket.Packet
	stop    chan struct{} // closed by StopReading
	hungUp  *sync.Once    // closes out
	peer    *pipeEnd
	closed  atomic.Bool
}

func newPipe() (a, b *pipeEnd) {
	x, y := make(chan seqpacket.Packet, 10000), make(chan seqpacket.Packet, 10000)
	a = &pipeEnd{in: x, out: y, stop: make(chan struct{}), hungUp: &sync.Once{}}
	b = &pipeEnd{in: y, out: x, stop: make(chan struct{}), hungUp: &sync.Once{}, peer: a}
	a.peer = b
	return a, b
}

func (e *pipeEnd) Post(m wire.Message, fds ...int) error {
	b, err := wire.Encode(m)
	if err != nil {
		return err
	}
	if e.closed.Load() || e.peer.closed.Load() {
		return syscall.EPIPE
	}
	p := seqpacket.Packet{}
	if p.Frame, err = wire.Decode(b); err != nil {
		return err
	}
	for _, fd := range fds {
		d, err := rawfd.Dup(fd)
		if err != nil {
			return err
		}
		p.FDs = append(p.FDs, d)
	}
	e.out <- p
	return nil
}

func (e *pipeEnd) Recv() (seqpacket.Packet, error) {
	select {
	case p, ok := <-e.in:
		switch {
		case !ok:
			return p, io.EOF
		case p.Frame.T == cut{}.Kind():
			return p, seqpacket.ErrCut
		}
		return p, nil
	case <-e.stop:
		return seqpacket.Packet{}, os.ErrDeadlineExceeded
	}
}

// cut stands for a message whose descriptors the receiver has no room for.
type cut struct{}

func (cut) Kind() string { return "cut" }

func (e *pipeEnd) StopReading() { close(e.stop) }
func (e *pipeEnd) HungUp() bool { return e.peer.closed.Load() }
func (e *pipeEnd) Flush()       {}

func (e *pipeEnd) Close() error {
	e.hungUp.Do(func() { e.closed.Store(true); close(e.out) })
	return nil
}

// heard are the messages that have arrived since it was called last. Their descriptors are closed.
func (e *pipeEnd) heard() (all []wire.Frame) {
	for {
		select {
		case p, ok := <-e.in:
			if !ok {
				return all
			}
			p.Close()
			all = append(all, p.Frame)
		default:
			return all
		}
	}
}

// virtual is a world without processes: a master, and what it needs of the kernel, in virtual time. The supervisor and
// the workers are the test itself.
type virtual struct {
	t          *testing.T
	m          *master
	mu         sync.Mutex // of the workers
	supervisor *pipeEnd
	workers    map[int]*virtualWorker
	orphans    map[uint64]*virtualWorker // of another master, by the descriptor that stands for its control socket
	starts     error                     // why none can be started

	successor chan error // what becomes of it
	flipped   bool       // the predecessor was told that it may go
	done      chan struct{}
	err       error // with which the master has exited
}

type virtualWorker struct {
	*pipeEnd
	pid    int
	slot   int
	v      *virtual
	token  int // a raw descriptor: its control socket in the registry
	killed atomic.Bool
	status unix.WaitStatus
	exited bool
}

const firstPID = 1 << 22 // beyond those of the kernel

// inVirtualTime runs f with a master that has said hello as a successor, or whatever role says.
func inVirtualTime(t *testing.T, role string, cfg Config, f func(v *virtual)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(100 * 365 * 24 * time.Hour) // the virtual clock begins in 2000, before this process
		v := &virtual{
			t: t, workers: map[int]*virtualWorker{}, orphans: map[uint64]*virtualWorker{},
			successor: make(chan error, 1), done: make(chan struct{}),
		}
		if len(cfg.Listen) == 0 {
			cfg.Listen = []Listen{{Address: "unix:s"}}
		}
		if cfg.Workers == 0 {
			cfg.Workers = 2
		}
		load := func(context.Context) (Config, error) { return cfg, nil }
		v.m = newMaster(Options{Load: load, Version: "v1"}, v, nowhere)
		v.m.dir = t.TempDir()
		var ours *pipeEnd
		v.supervisor, ours = newPipe()
		v.m.supervisor = ours
		go func() {
			v.err = v.m.run()
			close(v.done)
		}()
		if role != "" {
			v.say(message.Welcome{Role: role, Generation: 5, Seen: 7}, message.End{})
		}
		f(v)
		v.tearDown()
	})
}

func (v *virtual) hello(message.Hello) (link, upgrader, error) { return v.m.supervisor, v, nil }

func (v *virtual) Start([]string, string, map[string]string) error { return <-v.successor }
func (v *virtual) Ready()                                          { v.flipped = true }

func (v *virtual) start(s spawn.Spec) (pid int, conn link, control int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.starts != nil {
		return 0, nil, -1, v.starts
	}
	w := v.newWorker()
	w.slot, _ = strconv.Atoi(s.Argv[1][strings.LastIndexByte(s.Argv[1], ' ')+1:])
	control, err = rawfd.Dup(w.token)
	return w.pid, w.peer, control, err
}

func (v *virtual) newWorker() *virtualWorker {
	w := &virtualWorker{pid: firstPID + len(v.workers), v: v}
	w.pipeEnd, _ = newPipe()
	var err error
	if w.token, err = unix.MemfdCreate("worker", unix.MFD_CLOEXEC); err != nil {
		v.t.Fatal(err)
	}
	v.workers[w.pid] = w
	return w
}

func inode(t *testing.T, fd int) uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func (v *virtual) adopt(control int) (link, error) {
	defer func() { _ = unix.Close(control) }()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.orphans[inode(v.t, control)].peer, nil
}

func (v *virtual) wait(pid, _ int) (unix.WaitStatus, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.workers[pid]
	return w.status, w.exited
}

func (v *virtual) kill(pid int) {
	v.mu.Lock()
	w := v.workers[pid]
	w.killed.Store(true)
	v.mu.Unlock()
	w.exit(unix.WaitStatus(unix.SIGKILL))
}

func (v *virtual) handle(pid int) (int, error) { return pid, nil }
func (v *virtual) killHandle(pid int)          { v.kill(pid) }

// say is what the supervisor says.
func (v *virtual) say(all ...wire.Message) {
	v.t.Helper()
	for _, m := range all {
		if err := v.supervisor.Post(m); err != nil {
			v.t.Errorf("%s: %v", m.Kind(), err)
		}
	}
	synctest.Wait()
}

// heard is the last message of a kind that the master has told the supervisor since it was asked last for anything.
func heard[M wire.Message](v *virtual) (m M, ok bool) {
	v.t.Helper()
	synctest.Wait()
	for _, f := range v.supervisor.heard() {
		if f.T != m.Kind() {
			continue
		}
		got := new(M)
		if err := f.Into(any(got).(wire.Message)); err != nil {
			v.t.Error(err)
		}
		m, ok = *got, true
	}
	return m, ok
}

// living are the workers that this master has started and that have not exited, in the order of their slots.
func (v *virtual) living() (all []*virtualWorker) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range v.workers {
		if !w.exited && v.orphans[inode(v.t, w.token)] == nil {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *virtualWorker) int { return a.slot - b.slot })
	return all
}

// ready makes all workers READY.
func (v *virtual) ready() {
	for _, w := range v.living() {
		w.says(wire.Ready{})
	}
}

// commit brings a master that has just said hello to COMMIT, and to being alone with the workers in items.
func (v *virtual) commit(items ...message.Item) {
	v.t.Helper()
	v.ready()
	if c, ok := heard[message.Commit](v); !ok || c.Seen != 7 {
		v.t.Fatalf("COMMIT was not asked for, but %+v", c)
	}
	v.say(message.Committed{Generation: 5})
	v.say(message.TakeoverComplete{})
	for _, it := range items {
		pid := supervisor.WorkerPID(it.Name)
		if err := v.supervisor.Post(it, v.workers[pid].token); err != nil {
			v.t.Fatal(err)
		}
	}
	v.say(message.End{})
	if v.m.phase != phaseCurrent {
		v.t.Fatalf("it is %s", phaseNames[v.m.phase])
	}
}

// older is a worker of an older generation, as the registry has it.
func (v *virtual) older(gen, slot int) (*virtualWorker, message.Item) {
	v.mu.Lock()
	defer v.mu.Unlock()
	w := v.newWorker()
	w.slot = slot
	v.orphans[inode(v.t, w.token)] = w
	b, err := wire.Marshal(message.WorkerRecord{Generation: gen, Slot: slot, Started: 1})
	if err != nil {
		v.t.Fatal(err)
	}
	return w, message.Item{Name: supervisor.WorkerEntry(w.pid), Data: string(b), HasFD: true}
}

func (w *virtualWorker) says(m wire.Message) {
	if err := w.Post(m); err != nil {
		w.v.t.Errorf("worker %d: %s: %v", w.slot, m.Kind(), err)
	}
	synctest.Wait()
}

// told is the last message of a kind that the worker has got since it was asked last.
func told[M wire.Message](w *virtualWorker) (m M, ok bool) {
	w.v.t.Helper()
	synctest.Wait()
	for _, f := range w.heard() {
		if f.T == m.Kind() {
			got := new(M)
			if err := f.Into(any(got).(wire.Message)); err != nil {
				w.v.t.Error(err)
			}
			m, ok = *got, true
		}
	}
	return m, ok
}

// exit ends the worker. If it is the master's child, the master is told; otherwise the supervisor would be.
func (w *virtualWorker) exit(status unix.WaitStatus) {
	w.v.mu.Lock()
	defer w.v.mu.Unlock()
	if w.exited {
		return
	}
	w.exited, w.status = true, status
	_ = w.Close()
	_ = unix.Close(w.token)
	select {
	case w.v.m.children <- unix.SIGCHLD:
	default:
	}
}

func (w *virtualWorker) dies(status unix.WaitStatus) {
	w.exit(status)
	synctest.Wait()
}

// ended reports whether the master has exited.
func (v *virtual) ended() bool {
	synctest.Wait()
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

// tearDown ends the master, if it has not ended, and all of its goroutines.
func (v *virtual) tearDown() {
	_ = v.supervisor.Close()
	select {
	case v.successor <- io.EOF:
	default:
	}
	for !v.ended() {
		for _, w := range v.workers {
			w.exit(0)
		}
		time.Sleep(time.Minute)
	}
	for _, w := range v.workers {
		w.exit(0)
	}
	v.supervisor.heard()
}
