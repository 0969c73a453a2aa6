package master

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/supervisor"
	"baton/worker/wire"
)

// proc is a worker process as its master sees it.
type proc struct {
	plan.Worker
	conn   link
	own    bool // our child: we reap it; otherwise the supervisor does
	handle int  // a pidfd, of one that is not our child, when the supervisor is dead
	record message.WorkerRecord
	eof    bool // its control socket is closed: it has said all
	reaped bool // it has exited, with status
	status unix.WaitStatus
	why    string // we have killed it, and this is why

	stats   wire.Stats
	bye     bool   // it has said what it has cut, and exits
	failure string // why it has ended, in its own words
	takes   takes
	told    string // the workers that take its connections
	accepts listen.Worker

	recycled string // why another one takes its place
	rss      int64  // bytes, when it was looked at last
	beat     uint64 // the heartbeat that was seen last
}

// died notes that the process was reaped, and reports whether all that it has said was read.
func (p *proc) died(status unix.WaitStatus) bool {
	p.reaped, p.own, p.status = true, false, status
	return p.eof
}

// read turns what a worker says into events, and ends with its control socket.
func (p *proc) read(m *master) {
	for {
		packet, err := p.conn.Recv()
		if err != nil {
			m.send(func() { m.onWorkerEnd(p) })
			return
		}
		m.send(func() { m.onWorker(p, &packet) })
	}
}

// unready is why a reload fails whose worker has exited.
func (p *proc) unready() error {
	if p.failure != "" {
		return errors.New(p.failure)
	}
	return fmt.Errorf("worker %d (pid %d): ended before it was ready: %s", p.Slot, p.PID, p.end())
}

// end is how the process has exited, in words.
func (p *proc) end() string {
	if p.failure != "" {
		return p.failure
	}
	how := fmt.Sprintf("exit status %d", p.status.ExitStatus())
	if p.status.Signaled() {
		how = "signal " + p.status.Signal().String()
	}
	if p.why != "" {
		return p.why + ", " + how
	}
	return how
}

// attrs name the worker in the log.
func (p *proc) attrs(more ...any) []any {
	return append([]any{"generation", p.Generation, "slot", p.Slot, "pid", p.PID}, more...)
}

// pool is the worker processes that a master knows: its own, and those that it has adopted.
type pool struct {
	sys       system
	reg       *registry
	procs     map[int]*proc
	gonePIDs  map[int]bool  // of our own, while the registry may still name them
	measureAt monotime.Time // the next look at the memory of the workers; 0: never
	takersBy  monotime.Time // a restarted master waits no longer for its workers to say what they take
}

// update puts a worker's record into the registry.
func (w *pool) update(p *proc) { w.reg.store(supervisor.WorkerEntry(p.PID), p.record, -1) }

// adopt takes over a worker that another master has started. fd is its control socket.
func (w *pool) adopt(pid int, data string, fd, gen int) (*proc, error) {
	conn, err := w.sys.adopt(fd)
	if err != nil {
		return nil, err
	}
	p := &proc{conn: conn}
	err = wire.Unmarshal([]byte(data), &p.record) // a worker without a record is of no generation, and drains
	p.Worker = adopted(pid, p.record, gen)
	if p.State == plan.Ready && p.record.Starting { // it has said Ready to us, or will
		p.State, p.Started = plan.Starting, monotime.Now()
		_ = p.conn.Post(wire.StatsRequest{})
	}
	w.procs[pid] = p
	return p, err
}

// adopted is a worker as its record describes it, to a master of generation gen. Whatever the clock on the wall shows
// by now, it is as old as it is.
func adopted(pid int, r message.WorkerRecord, gen int) plan.Worker {
	v := plan.Worker{
		PID: pid, Generation: r.Generation, Slot: r.Slot, Started: monotime.Time(r.Started), State: plan.Serving,
	}
	switch {
	case r.Draining:
		v.State, v.Deadline = plan.Draining, monotime.Time(r.Deadline)
	case r.Generation == gen:
		v.State = plan.Ready // GO once more does no harm
		v.Replaces = r.Replaces
	}
	return v
}

// reap collects our own children among the workers, and returns those that have said all. wait4(-1) would steal the
// successor.
func (w *pool) reap() (gone []*proc) {
	for pid, p := range w.procs {
		if !p.own {
			continue
		}
		if status, exited := w.sys.wait(pid, unix.WNOHANG); exited {
			w.reg.drop(supervisor.WorkerEntry(pid))
			if p.died(status) {
				gone = append(gone, p)
			}
		}
	}
	return gone
}

// kill sends KILL to a worker, by the process whose child it is.
func (w *pool) kill(p *proc) {
	switch {
	case p.own:
		w.sys.kill(p.PID) // not reaped, so the number is still its own
	case !w.reg.lost:
		_ = w.reg.supervisor.Post(message.Kill{PID: p.PID})
	case p.handle != 0:
		w.sys.killHandle(p.handle)
	}
}

// killOwn ends the workers of a master that gives up. They have accepted nothing.
func (w *pool) killOwn() {
	for _, p := range w.procs {
		if p.own {
			w.sys.kill(p.PID)
		}
	}
	for _, p := range w.procs {
		if p.own {
			w.sys.wait(p.PID, 0)
		}
	}
}

// trackAdopted looks after the workers that are not our children, for the supervisor is dead, and returns those that
// have exited. Whichever process is their parent now may reap them at any time, so a number alone names none of them.
// A pidfd does: while its socket has not ended, the worker was alive when the pidfd was opened.
func (w *pool) trackAdopted() (gone []*proc) {
	for _, p := range w.procs {
		switch {
		case p.own || p.reaped:
		case p.eof:
			gone = append(gone, p)
		default:
			if fd, err := w.sys.handle(p.PID); err == nil { // otherwise it has just exited: end-of-file follows
				p.handle = fd
			}
		}
	}
	return gone
}

// remove forgets a worker that has exited, also as one that is replaced: its PID may be reused. While the registry may
// still name it, it is not adopted.
func (w *pool) remove(p *proc, adopting bool) {
	delete(w.procs, p.PID)
	if adopting {
		w.gonePIDs[p.PID] = true
	}
	w.forgetReplaced()
}

// forgetReplaced clears Replaces where the replaced worker has exited.
func (w *pool) forgetReplaced() {
	for _, p := range w.procs {
		if p.Replaces != 0 && w.procs[p.Replaces] == nil {
			p.Replaces, p.record.Replaces = 0, 0
			w.update(p)
		}
	}
}

// isReplaced reports whether another worker takes the place of p.
func (w *pool) isReplaced(p *proc) bool {
	for _, q := range w.procs {
		if q.Replaces == p.PID {
			return true
		}
	}
	return false
}

// oldest is the generation of the oldest worker; without any it is gen.
func (w *pool) oldest(gen int) int {
	for _, p := range w.procs {
		gen = min(gen, p.Generation)
	}
	return gen
}

// measureEvery is how often the memory of the workers is looked at, where max_memory is set.
const measureEvery = time.Second

// measure looks at the memory of the workers of a generation, if it is time, and reports whether all of them have less
// than the limit. 0 is no limit.
func (w *pool) measure(gen int, limit int64, now monotime.Time) (suffices bool) {
	if limit == 0 {
		w.measureAt = 0
		return false
	}
	if now < w.measureAt {
		return false
	}
	w.measureAt = now.Add(measureEvery)
	suffices = true
	for _, p := range w.procs {
		if p.Generation != gen || p.State != plan.Serving {
			continue
		}
		p.rss = rss(p.PID)
		for _, pid := range supervisor.Descendants(p.PID) { // the instance of its program
			p.rss += rss(pid)
		}
		if p.rss <= plan.Jitter(limit, p.PID) {
			p.OverMemory = 0
			continue
		}
		if suffices = false; p.OverMemory == 0 {
			p.OverMemory = now
		}
	}
	return suffices
}

// rss is the resident memory of a process in bytes, 0 if it cannot be known. The file costs no walk through its memory.
func rss(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}
