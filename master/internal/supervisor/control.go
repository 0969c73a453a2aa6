package supervisor

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/control"
	"baton/master/internal/message"
	"baton/master/internal/status"
	"baton/worker/rawfd"
)

// How long the supervisor waits for those who have asked on the control socket: before it ends, and before it executes another
// binary, which it then tries again a little later.
const (
	lastAnswers  = 300 * time.Millisecond
	quietControl = 100 * time.Millisecond
)

// serveControl answers on the control socket of the registry, or on e's before the first COMMIT. The supervisor listens by itself,
// so that the kernel tells its PID to those who connect.
func (sv *supervisor) serveControl(e entry) {
	sv.stopControl()
	sv.setProblem(problemControl, "")
	if e.fd < 0 {
		return
	}
	err := unix.Listen(e.fd, unix.SOMAXCONN)
	if err == nil {
		var fd int
		if fd, err = rawfd.Dup(e.fd); err == nil {
			ln, lerr := control.Listener(fd)
			if err = lerr; err == nil {
				sv.control = control.Serve(ln, api{sv})
				return
			}
		}
	}
	sv.log.Error("supervisor: control socket", "error", err)
	sv.setProblem(problemControl, "control socket: "+err.Error())
}

// stopControl stops accepting. Those who have asked are answered.
func (sv *supervisor) stopControl() {
	if sv.control != nil {
		sv.control.Stop()
		sv.control = nil
	}
}

// closeControl is the end: the last answers are written.
func (sv *supervisor) closeControl() {
	if sv.control != nil {
		sv.control.Close(lastAnswers)
	}
}

// calmControl stops accepting and waits until all who have asked are answered, for a moment. It reports whether nobody is
// connected any more. Who connects meanwhile waits in the socket's queue, for the next program.
func (sv *supervisor) calmControl() bool {
	s := sv.control
	if s == nil {
		return true
	}
	sv.stopControl()
	limit := time.NewTimer(quietControl)
	defer limit.Stop()
	for s.Busy() {
		select {
		case f := <-sv.calls:
			f()
		case ev := <-sv.packets:
			sv.onPacket(ev)
		case <-s.Empty():
		case <-limit.C:
			return false
		}
		sv.answer(time.Now())
	}
	return true
}

// resumeControl undoes it.
func (sv *supervisor) resumeControl() {
	if e, ok := sv.registry[EntryControl]; ok && sv.control == nil {
		sv.serveControl(e)
	}
}

// api is the supervisor behind the control socket.
//
// Threading: its methods are called by the control socket's goroutines; what they begin runs on the loop.
type api struct{ sv *supervisor }

// ask begins something on the loop, and waits for its answer.
func (a api) ask(ctx context.Context, begin func(now time.Time) look) (any, error) {
	reply := make(chan answer, 1)
	start := func() {
		a.sv.questions = append(a.sv.questions, question{ctx: ctx, look: begin(time.Now()), reply: reply})
	}
	select {
	case a.sv.calls <- start:
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
		sv := a.sv
		return known(status.Identity{
			SupervisorPID: sv.pid, Supervisor: sv.opts.Version, Version: sv.registry[EntryExe].data, Generation: sv.generation,
		})
	})
}

// Status is what the master says of itself and its workers, or what the supervisor knows where it says nothing.
func (a api) Status(ctx context.Context) (any, error) {
	return a.ask(ctx, func(now time.Time) look { return a.sv.askStatus(now) })
}

// Reload counts a request.
func (a api) Reload(ctx context.Context) (int64, error) {
	id, err := a.ask(ctx, func(time.Time) look {
		if a.sv.stopping {
			return refused(errStopping())
		}
		return known(a.sv.request("control", false))
	})
	if err != nil {
		return 0, err
	}
	return id.(int64), nil
}

// Await waits until a reload has ended; with drained until all older workers are gone.
func (a api) Await(ctx context.Context, id int64, drained bool) (any, error) {
	return a.ask(ctx, func(now time.Time) look { return a.sv.awaitReload(id, drained, now) })
}

// Resize waits until the master has that many slots.
func (a api) Resize(ctx context.Context, workers int) (any, error) {
	return a.ask(ctx, func(now time.Time) look {
		if a.sv.stopping {
			return refused(errStopping())
		}
		return a.sv.askResize(message.Resize{Workers: workers}, now)
	})
}

// Stop stops everything. One that comes while a stop is on its way joins it, unless it asks to kill.
func (a api) Stop(ctx context.Context, quit, now bool) (any, error) {
	return a.ask(ctx, func(time.Time) look {
		a.sv.stop(stop{by: "control", quit: quit})
		if now {
			a.sv.killAll("asked to stop now")
		}
		return known(map[string]int{"supervisor_pid": a.sv.pid})
	})
}

func errStopping() error {
	return &control.Error{Code: http.StatusServiceUnavailable, Text: "baton is stopping"}
}
