package supervisor

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/control"
	"baton/master/internal/status"
	"baton/worker/rawfd"
)

// How long the clients of the control socket are waited for: before the supervisor exits, and before it
// executes another binary, which it then tries again a little later.
const (
	lastAnswers = 300 * time.Millisecond
	calmLimit   = 100 * time.Millisecond
)

// front is the supervisor as its clients see it: the control socket, and what has been asked on it.
type front struct {
	sv        *supervisor
	server    *control.Server // nil: nobody can ask
	questions []question
	at        time.Time // the questions are looked at, if no event comes before
	statuses  statuses
	problems  problems
}

// serve answers on a control socket, or on none. The supervisor listens by itself, so that the kernel tells its PID to
// those who connect.
func (f *front) serve(e entry) {
	f.stop()
	f.problems.control = ""
	if e.FD < 0 {
		return
	}
	if err := f.listen(e.FD); err != nil {
		f.sv.log.Error("supervisor: control socket", "error", err)
		f.problems.control = "control socket: " + err.Error()
	}
}

func (f *front) listen(fd int) error {
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return err
	}
	fd, err := rawfd.Dup(fd)
	if err != nil {
		return err
	}
	ln, err := control.Listener(fd)
	if err != nil {
		return err
	}
	f.server = control.Serve(ln, api{f})
	return nil
}

// stop stops accepting. Clients that have asked are answered.
func (f *front) stop() {
	if f.server != nil {
		f.server.Stop()
		f.server = nil
	}
}

// close is the end: the last answers are written.
func (f *front) close() {
	if f.server != nil {
		f.server.Close(lastAnswers)
	}
}

// calm stops accepting and waits until all clients are answered, for a moment. It reports whether nobody is
// connected any more. Clients that connect meanwhile wait in the socket's queue, for the next program.
func (f *front) calm() bool {
	s := f.server
	if s == nil {
		return true
	}
	f.stop()
	limit := time.NewTimer(calmLimit)
	defer limit.Stop()
	for s.Busy() {
		select {
		case call := <-f.sv.events.calls:
			call()
		case ev := <-f.sv.events.packets:
			f.sv.onPacket(ev)
		case <-s.Empty():
		case <-limit.C:
			return false
		}
		f.answer(time.Now())
	}
	return true
}

// resume undoes it.
func (f *front) resume() {
	if f.server == nil {
		f.serve(f.sv.registry.get(EntryControl))
	}
}

// api is the front behind the control socket.
//
// Threading: its methods are called by the control socket's goroutines; what they begin runs on the loop.
type api struct{ *front }

// ask begins something on the loop, and waits for its answer.
func (a api) ask(ctx context.Context, begin func(now time.Time) poll) (any, error) {
	reply := make(chan answer, 1)
	start := func() { a.add(question{ctx: ctx, poll: begin(time.Now()), reply: reply}) }
	select {
	case a.sv.events.calls <- start:
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

// Version identifies the supervisor.
func (a api) Version(ctx context.Context) (any, error) {
	return a.ask(ctx, func(time.Time) poll {
		return known(status.Identity{
			SupervisorPID: a.sv.pid, Supervisor: a.sv.version,
			Version: a.sv.registry[EntryExe].Data, Generation: a.sv.generation,
		})
	})
}

// Status is what the master says of itself and its workers, or what the supervisor knows where it says nothing.
func (a api) Status(ctx context.Context) (any, error) { return a.ask(ctx, a.askStatus) }

// Reload counts a request.
func (a api) Reload(ctx context.Context) (int64, error) {
	id, err := a.ask(ctx, func(time.Time) poll {
		if a.sv.stopping.begun() {
			return failed(errStopping())
		}
		return known(a.sv.request("baton reload", false, peerOf(ctx)...))
	})
	if err != nil {
		return 0, err
	}
	return id.(int64), nil
}

// Await waits until a reload has ended; with drained until all older workers are gone.
func (a api) Await(ctx context.Context, id int64, drained bool) (any, error) {
	return a.ask(ctx, func(now time.Time) poll { return a.reloadEnded(id, drained, now) })
}

// Resize waits until the master has that many slots.
func (a api) Resize(ctx context.Context, workers int) (any, error) {
	return a.ask(ctx, func(now time.Time) poll {
		if a.sv.stopping.begun() {
			return failed(errStopping())
		}
		return a.resize(workers, now)
	})
}

// Stop stops everything. One that comes while a stop is in progress joins it, unless it asks to kill.
func (a api) Stop(ctx context.Context, quit, now bool) (any, error) {
	return a.ask(ctx, func(time.Time) poll {
		a.sv.stop("baton stop", quit, peerOf(ctx)...)
		if now {
			a.sv.killAll("asked to stop now")
		}
		return known(map[string]int{"supervisor_pid": a.sv.pid})
	})
}

// peerOf returns the attributes of the process that has asked.
func peerOf(ctx context.Context) []any {
	if cred := control.PeerOf(ctx); cred != nil {
		return []any{"client_pid", cred.Pid, "client_uid", cred.Uid}
	}
	return nil
}

func errStopping() error { return problem(http.StatusServiceUnavailable, "baton is stopping") }

// problem returns an answer of HTTP.
func problem(code int, format string, args ...any) error {
	return &control.Error{Code: code, Text: fmt.Sprintf(format, args...)}
}
