package supervisor

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/supervisor/reexec"
	"baton/master/internal/systemd"
	"baton/worker"
)

// The supervisor re-executes itself at rest only, when nobody waits for an answer on the control socket, and not
// before reexecDelay has passed since COMMIT: several upgrades in a row make one re-exec, and a stop right after an
// upgrade meets no supervisor that is about to change.
const (
	reexecDelay = 500 * time.Millisecond
	reexecRetry = time.Second           // after a master did not read what was posted to it
	lastLines   = 50 * time.Millisecond // for the log, before the execve
)

// reexecution is how the supervisor comes to run the executable of the last COMMIT, under the same PID.
type reexecution struct {
	sv        *supervisor
	candidate reexec.Candidate
	at        time.Time // the next try, or the end of a dry run's time
}

// propose is called after COMMIT.
func (r *reexecution) propose() {
	if r.candidate.Propose(reexec.Stat(r.sv.exePath()), time.Now()) {
		r.sv.front.problems.reexec = ""
	}
}

// atRest reports whether nothing is going on but that workers serve, or drain.
func (sv *supervisor) atRest() bool {
	c := sv.current
	return sv.attempt == nil && sv.old == nil && sv.requests == sv.served && sv.starting == nil && sv.live == 1 &&
		!sv.stopping.begun() && len(sv.dead)+len(sv.leaving)+len(sv.instances.orphaned) == 0 && sv.held.isEmpty() &&
		sv.registration.state != registrationBroken &&
		c != nil && c.phase == phaseCurrent && c.serving && c.reopens == 0 && c.exitStatus == ""
}

// isQuiet reports whether all that the supervisor had to say is said.
func (sv *supervisor) isQuiet() bool { return sv.atRest() && sv.current.Idle() && sv.systemd.Idle() }

// try is called after every event.
func (r *reexecution) try(now time.Time) {
	c := &r.candidate
	if c.Wanted == (reexec.FileID{}) || c.PID() != 0 || !r.sv.atRest() {
		return
	}
	if wait := c.Since.Add(reexecDelay).Sub(now); wait > 0 {
		r.at = now.Add(wait)
		return
	}
	r.at = time.Time{}
	switch {
	case c.Wanted != c.Checked:
		r.check(now)
	case !r.sv.isQuiet() || len(r.sv.front.questions) > 0:
		r.at = now.Add(reexecRetry)
	default:
		r.exec()
	}
}

// refuse gives an executable up, until the COMMIT of another one.
func (r *reexecution) refuse(id reexec.FileID, err error) {
	version := r.sv.version
	r.sv.log.Error("supervisor: cannot re-execute itself, staying as it is", "version", version, "error", err)
	if r.candidate.Refuse(id) {
		why := shorten(err.Error())
		r.sv.front.problems.reexec = fmt.Sprintf("the supervisor stays at version %s: %s", version, why)
	}
}

// argv and env are those of a process in the role of the supervisor.
func (r *reexecution) argv() []string {
	return append([]string{r.sv.args[0], worker.RoleSupervisor}, r.sv.args[1:]...)
}

func (r *reexecution) env() []string {
	return append(Scrub(os.Environ()), worker.RoleEnv+"="+worker.RoleSupervisor)
}

// check starts the dry run.
func (r *reexecution) check(now time.Time) {
	st, err := r.sv.snapshot()
	if err == nil {
		err = r.candidate.Start(r.sv.kernel.start, r.sv.exePath(), r.argv(), r.env(), st.encode())
	}
	if err != nil {
		r.refuse(r.candidate.Wanted, err)
		return
	}
	r.at = now.Add(reexec.DryRunLimit)
}

// dryRunEnded is told by the reaper.
func (r *reexecution) dryRunEnded(ws unix.WaitStatus) {
	r.at = time.Time{}
	if id, err := r.candidate.Ended(ws); err != nil && !r.sv.stopping.begun() {
		r.refuse(id, err)
	}
}

// exec executes the new binary. It returns when that has failed, or when something has come in between.
func (r *reexecution) exec() {
	defer r.sv.front.resume()
	if !r.sv.front.calm() {
		r.at = time.Now().Add(reexecRetry)
		return
	}
	id := r.candidate.Wanted
	r.sv.log.Info("supervisor: re-executing itself", "version", r.sv.registry[EntryExe].Data)
	r.sv.sink.Flush(lastLines)
	if err := r.execQuietly(); err != nil {
		r.refuse(id, err)
	}
	r.sv.compare() // a HUP was lost, perhaps
}

// execQuietly returns nil if something has come in between: then it is tried again at rest.
func (r *reexecution) execQuietly() error {
	defer r.unpause()
	if !r.pause() {
		return nil
	}
	defer r.sv.obeySignals()
	r.sv.holdSignals()
	if !r.sv.isQuiet() {
		return nil
	}
	st, err := r.sv.snapshot()
	if err != nil {
		return err
	}
	env := append(r.env(), systemd.Environment()...)
	return reexec.Exec(r.sv.registry[EntryExe].FD, r.argv(), env, st.encode(), st.fds())
}

// pause stops reading what masters say, so that the rest of it stays in the kernel; what had been read already is
// obeyed. It reports whether the supervisor still is quiet.
func (r *reexecution) pause() bool {
	sv := r.sv
	if !sv.atRest() {
		return false
	}
	c := sv.current
	c.StopReading()
	sv.registration.conn.StopReading()
	for !c.paused && c.phase != phaseGone || sv.registration.state == registrationOpen {
		sv.onPacket(<-sv.events.packets)
	}
	return sv.isQuiet()
}

// unpause undoes it.
func (r *reexecution) unpause() {
	sv := r.sv
	if sv.registration.state == registrationPaused {
		sv.registration.state = registrationOpen
		sv.registration.conn.ResumeReading()
		go sv.readRegistrations()
	}
	if c := sv.current; c != nil && c.paused {
		c.paused = false
		c.ResumeReading()
		go read(c, c, sv.events.packets)
	}
}

// resume goes on from the state of the executable before.
func (r *reexecution) resume(fd int) error {
	sv := r.sv
	b, err := reexec.Read(fd)
	if err != nil {
		return err
	}
	st, err := parseState(b)
	if err != nil {
		return err
	}
	if err := reexec.Resumed(st.fds()); err != nil {
		return err
	}
	if err := sv.restore(st); err != nil {
		return err
	}
	sv.switchLog()
	sv.log.Info("supervisor: has re-executed itself", "version", sv.version, "before", st.Program)
	sv.reap()
	go sv.readRegistrations()
	go read(sv.current, sv.current, sv.events.packets)
	sv.front.resume()
	sv.systemd.Sync()
	if sv.tty != nil && sv.tty.gone.Load() == 0 {
		go sv.tty.await()
	}
	if sv.tty.hungUp() { // its HUP was lost
		sv.onSignal(syscall.SIGHUP)
	}
	sv.compare() // another HUP was lost, perhaps
	return nil
}

// compare asks the master whether anything has changed, because a HUP may have been lost. systemd may be waiting for
// the answer to that HUP.
func (sv *supervisor) compare() {
	sv.systemd.Reloading(0, sv.reloadingText("looking for changes"))
	sv.post(message.Compare{Whole: sv.systemd.Present()})
}
