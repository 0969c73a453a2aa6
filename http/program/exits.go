package program

import (
	"errors"
	"sync"
	"time"

	"baton/worker/wire"
)

// exits are the instances of a Runner that have ended unasked, or have not become ready.
type exits struct {
	mu   sync.Mutex
	n    int64
	last wire.ProgramExit
	at   time.Time // of the last one
	next time.Time // start of an instance; zero: it has come
}

// add notes one, after which the next instance is started in pause.
func (e *exits) add(program, how string, lines []string, pause time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n++
	e.last = wire.ProgramExit{Program: program, How: how, Lines: lines}
	e.at = time.Now()
	e.next = e.at.Add(pause)
}

// started notes that the next instance has been started.
func (e *exits) started() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = time.Time{}
}

// Exits tells how many instances have ended unasked or have not become ready in the place of one that has, and about
// the last of them; nil if there is none.
func (r *Runner) Exits() (n int64, last *wire.ProgramExit) {
	e := &r.exits
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n == 0 {
		return 0, nil
	}
	exit := e.last
	exit.Ago = time.Since(e.at).Seconds()
	exit.NextStart = max(0, time.Until(e.next).Seconds())
	return e.n, &exit
}

// died notes and logs the end of an instance. Its last lines are in the log already.
func (r *Runner) died(i *Instance, pause time.Duration) {
	r.exits.add(r.program.Name, i.how(), i.tail.last(), pause)
	r.complain("program: the instance has died", pause, "program_pid", i.PID(), "state", i.how())
}

// unready notes and logs that an instance has not become ready.
func (r *Runner) unready(err error, pause time.Duration) {
	var e *ExitError
	if !errors.As(err, &e) {
		e = &ExitError{What: err.Error()}
	}
	r.exits.add(r.program.Name, e.What, e.Lines, pause)
	r.complain("program: no new instance", pause, "error", err)
}

func (r *Runner) complain(what string, pause time.Duration, more ...any) {
	r.log.Error(what, append([]any{"program", r.program.Name, "next_start", pause}, more...)...)
}
