package keeper

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/control"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// How long the keeper waits for those who have asked on the control socket: before it ends, and before it executes another
// binary, which it then tries again a little later.
const (
	lastAnswers  = 300 * time.Millisecond
	quietControl = 100 * time.Millisecond
)

// serveControl answers on the control socket of the store, or on e's before the first COMMIT. The keeper listens by itself,
// so that the kernel tells its PID to those who connect.
func (k *keeper) serveControl(e entry) {
	k.stopControl()
	k.setProblem(problemControl, "")
	if e.fd < 0 {
		return
	}
	err := unix.Listen(e.fd, unix.SOMAXCONN)
	if err == nil {
		var fd int
		if fd, err = seqpacket.Dup(e.fd); err == nil {
			ln, lerr := control.Listener(fd)
			if err = lerr; err == nil {
				k.control = control.Serve(ln, api{k})
				return
			}
		}
	}
	k.log.Error("keeper: control socket", "error", err)
	k.setProblem(problemControl, "control socket: "+err.Error())
}

// stopControl stops accepting. Those who have asked are answered.
func (k *keeper) stopControl() {
	if k.control != nil {
		k.control.Stop()
		k.control = nil
	}
}

// closeControl is the end: the last answers are written.
func (k *keeper) closeControl() {
	if k.control != nil {
		k.control.Close(lastAnswers)
	}
}

// calmControl stops accepting and waits until all who have asked are answered, for a moment. It reports whether nobody is
// connected any more. Who connects meanwhile waits in the socket's queue, for the next program.
func (k *keeper) calmControl() bool {
	s := k.control
	if s == nil {
		return true
	}
	k.stopControl()
	limit := time.NewTimer(quietControl)
	defer limit.Stop()
	for s.Busy() {
		select {
		case f := <-k.calls:
			f()
		case ev := <-k.packets:
			k.onPacket(ev)
		case <-s.Empty():
		case <-limit.C:
			return false
		}
		k.answer(time.Now())
	}
	return true
}

// resumeControl undoes it.
func (k *keeper) resumeControl() {
	if e, ok := k.store[EntryControl]; ok && k.control == nil {
		k.serveControl(e)
	}
}

// api is the keeper behind the control socket.
//
// Threading: its methods are called by the control socket's goroutines; what they begin runs on the loop.
type api struct{ k *keeper }

// ask begins something on the loop, and waits for its answer.
func (a api) ask(ctx context.Context, begin func(now time.Time) look) (any, error) {
	reply := make(chan answer, 1)
	start := func() {
		a.k.questions = append(a.k.questions, question{ctx: ctx, look: begin(time.Now()), reply: reply})
	}
	select {
	case a.k.calls <- start:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-reply:
		return r.value, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Version says who is here.
func (a api) Version(ctx context.Context) (any, error) {
	return a.ask(ctx, func(time.Time) look {
		k := a.k
		return known(wire.Identity{
			KeeperPID: k.pid, Keeper: k.opts.Version, Version: k.store[EntryExe].data, Generation: k.generation,
		})
	})
}

// Status is what the master says of itself and its workers, or what the keeper knows where it says nothing.
func (a api) Status(ctx context.Context) (any, error) {
	return a.ask(ctx, func(now time.Time) look { return a.k.askStatus(now) })
}

// Reload counts a request.
func (a api) Reload(ctx context.Context) (int64, error) {
	id, err := a.ask(ctx, func(time.Time) look {
		if a.k.stopping {
			return refused(errStopping())
		}
		return known(a.k.request("control", false))
	})
	if err != nil {
		return 0, err
	}
	return id.(int64), nil
}

// Await waits until a reload has ended; with drained until all older workers are gone.
func (a api) Await(ctx context.Context, id int64, drained bool) (any, error) {
	return a.ask(ctx, func(now time.Time) look { return a.k.awaitReload(id, drained, now) })
}

// Resize waits until the master has that many slots.
func (a api) Resize(ctx context.Context, workers int) (any, error) {
	return a.ask(ctx, func(now time.Time) look {
		if a.k.stopping {
			return refused(errStopping())
		}
		return a.k.askResize(wire.Resize{Workers: workers}, now)
	})
}

// Stop stops everything. One that comes while a stop is on its way joins it, unless it asks to kill.
func (a api) Stop(ctx context.Context, quit, now bool) (any, error) {
	return a.ask(ctx, func(time.Time) look {
		a.k.stop(stop{by: "control", quit: quit})
		if now {
			a.k.killAll("asked to stop now")
		}
		return known(map[string]int{"keeper_pid": a.k.pid})
	})
}

func errStopping() error {
	return &control.Error{Code: http.StatusServiceUnavailable, Text: "baton is stopping"}
}
