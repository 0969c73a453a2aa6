package program

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"baton/http/internal/proxy"
)

// An instance that has died is started again at once if it has lived for long; else the pause before it doubles from
// the first to the last of these.
const (
	firstRestart = 100 * time.Millisecond
	lastRestart  = 10 * time.Second
	longLife     = 10 * time.Second

	defaultReady = 30 * time.Second
)

// noticePause is how long a request that an instance refuses waits for the news of its death: a moment, but nobody is
// told at once.
const noticePause = time.Second

// A Runner keeps one instance of a program running, and is its front. An instance that dies is replaced in its place,
// and not with its worker: the connections of the worker's clients live on, and requests wait for the new instance.
type Runner struct {
	program *Program
	at      Place
	log     *slog.Logger
	front   *proxy.Proxy
	stop    context.CancelFunc
	stopped chan struct{} // closed when the last instance has gone
	killAt  context.Context
	exits   exits

	mu       sync.Mutex
	instance *Instance     // nil while there is none
	changed  chan struct{} // closed when instance is another one
}

// Run launches an instance, as [Launch] does, and keeps it running until Stop.
func Run(ctx context.Context, p *Program, at Place, log *slog.Logger) (*Runner, error) {
	i, err := Launch(ctx, p, at, log)
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.Background())
	r := newRunner(p, at, log, i)
	r.stop = stop
	go r.run(running, i)
	return r, nil
}

func newRunner(p *Program, at Place, log *slog.Logger, i *Instance) *Runner {
	r := &Runner{
		program: p, at: at, log: log, stopped: make(chan struct{}), instance: i, changed: make(chan struct{}),
	}
	r.front = p.newFront(r.dial, log)
	return r
}

// run replaces instances that die, until ctx ends, and ends the last one.
func (r *Runner) run(ctx context.Context, i *Instance) {
	defer close(r.stopped)
	var pause time.Duration
	for {
		begin := time.Now()
		select {
		case <-ctx.Done():
			r.set(nil)
			r.front.Close() // a server that stops may wait for idle connections
			r.end(i)
			return
		case <-i.Exited():
		}
		r.set(nil)
		i.Kill() // what it has left of its group
		if time.Since(begin) > longLife {
			pause = 0
		}
		r.died(i, pause)
		if i = r.relaunch(ctx, &pause); i == nil {
			return
		}
		r.set(i)
	}
}

// relaunch starts instances until one is ready, or ctx has ended.
func (r *Runner) relaunch(ctx context.Context, pause *time.Duration) *Instance {
	for {
		timer := time.NewTimer(*pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		r.exits.started()
		*pause = min(max(2**pause, firstRestart), lastRestart)
		i, err := r.launch(ctx)
		if err == nil {
			return i
		}
		if ctx.Err() == nil {
			r.unready(err, *pause)
		}
	}
}

func (r *Runner) launch(ctx context.Context) (*Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.program.ReadyTimeout, defaultReady))
	defer cancel()
	return Launch(ctx, r.program, r.at, r.log)
}

// set publishes the instance.
func (r *Runner) set(i *Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instance = i
	close(r.changed)
	r.changed = make(chan struct{})
}

// current returns the instance, and what is closed when it is another one.
func (r *Runner) current() (*Instance, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.instance, r.changed
}

// PID returns that of the instance, 0 if there is none.
func (r *Runner) PID() int {
	if i, _ := r.current(); i != nil {
		return i.PID()
	}
	return 0
}

// ServeHTTP forwards requests to the instance. While there is none they wait, for the program's Timeout at most.
func (r *Runner) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.front.ServeHTTP(w, req) }

// errNoInstance is the answer while an instance has died and no other one is ready.
var errNoInstance = errors.New("the program is not running")

// dial connects to the instance, or to the one after it if it has died and nobody knows yet.
func (r *Runner) dial(ctx context.Context) (net.Conn, error) {
	if r.program.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.program.Timeout)
		defer cancel()
	}
	for {
		i, changed, err := r.await(ctx)
		if err != nil {
			return nil, err
		}
		c, err := i.dial(ctx)
		if err == nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-time.After(noticePause):
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// await returns the instance when there is one, and what is closed when it is another one.
func (r *Runner) await(ctx context.Context) (*Instance, <-chan struct{}, error) {
	for {
		i, changed := r.current()
		if i != nil {
			return i, changed, nil
		}
		select {
		case <-changed:
		case <-r.stopped:
			return nil, nil, errNoInstance
		case <-ctx.Done():
			return nil, nil, errNoInstance
		}
	}
}

// Stop ends the instance, as [Instance.Stop] does, and waits until it has gone.
func (r *Runner) Stop(ctx context.Context) {
	r.killAt = ctx // run reads it after stop
	r.stop()
	<-r.stopped
}

// end stops the last instance.
func (r *Runner) end(i *Instance) {
	if i.Stop(r.killAt) {
		r.log.Warn("program: killed, as it had not ended in time", "program", r.program.Name, "program_pid", i.PID())
	}
}
