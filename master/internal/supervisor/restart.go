package supervisor

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/backoff"
	"baton/master/internal/spawn"
	"baton/worker"
)

// restartLimit is how long a master may take to adopt the workers of a dead one. It starts nothing, and reads no file.
const restartLimit = 10 * time.Second

// restartBackoff is how soon a master that has died is started again, while its workers serve on: four times at once,
// then with growing pauses. A few seconds of service make up for all deaths.
var restartBackoff = backoff.Backoff{
	Free: 4, First: 100 * time.Millisecond, Max: 10 * time.Second, Half: 2 * time.Second,
}

// restarts are the deaths of masters.
type restarts struct {
	backoff backoff.Backoff
	at      time.Time // start a master, or give up the one that starts

	InARow int       `json:"in_a_row"` // since the last one that served
	Last   string    `json:"last"`     // how the last one died
	PID    int       `json:"pid"`      // of it
	Total  int64     `json:"total"`    // masters that were started in the place of one that died
	Since  time.Time `json:"since"`    // no master has died since
}

// begin is called when the current master has died.
func (r *restarts) begin(c *masterConn) {
	r.InARow, r.Last, r.PID = 0, c.exitStatus, c.pid
	r.note(c.pid, c.exitReason)
}

// note takes down how a master has died.
func (r *restarts) note(pid int, how string) {
	if pid == r.PID && how != "" {
		r.Last = how
	}
}

// planRestart plans the next start of a master, after one that has served for so long.
func (m *masters) planRestart(served time.Duration) {
	m.starting = nil
	m.restarts.InARow++
	m.restarts.at = time.Now().Add(m.restarts.backoff.Next(served))
	m.sv.systemd.Status(m.sv.statusLine())
}

// restartMaster starts a master, or kills one that was started and has not taken over in time.
func (m *masters) restartMaster() {
	switch {
	case m.sv.stopping.begun() || m.current != nil:
	case m.starting != nil:
		m.tooLate(m.starting)
	default:
		m.restarts.Total++
		if err := m.startMaster(); err != nil {
			m.sv.log.Error("supervisor: restart", "error", err)
			m.restarts.Last = err.Error()
			m.planRestart(0)
			return
		}
		m.restarts.Last, m.restarts.PID = "", m.starting.pid
		m.restarts.at = time.Now().Add(restartLimit)
	}
}

// startMaster starts the first master, or one that takes the place of a crashed one: the executable of the last COMMIT,
// however broken the file at its path is by now.
func (m *masters) startMaster() error {
	sv := m.sv
	argv := append([]string{sv.args[0], fmt.Sprintf("%s %d", worker.RoleMaster, max(1, m.generation))}, sv.args[1:]...)
	pid, err := sv.kernel.start(sv.exePath(), argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   masterEnv(os.Environ(), sv.dir),
		Files: []uintptr{0, 1, 2, uintptr(m.registration.masters)},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("start master: %w", err)
	}
	m.starting = &masterConn{pid: pid, pidfd: -1, phase: phaseRestart}
	if m.generation == 0 {
		m.starting.phase = phaseFirst
	}
	return nil
}

// exePath names the executable of the last COMMIT for a child, whose own descriptors are other ones.
func (sv *supervisor) exePath() string {
	e, ok := sv.registry[EntryExe]
	if !ok || e.FD < 0 {
		return "/proc/self/exe"
	}
	return fmt.Sprintf("/proc/%d/fd/%d", sv.pid, e.FD)
}

// startFailed: the first master has exited, and that is the end.
func (m *masters) startFailed(c *masterConn, ws unix.WaitStatus) {
	sv := m.sv
	if sv.stopping.begun() {
		return
	}
	m.starting = nil
	sv.stopping.phase = stopDraining
	sv.stopping.exit = exitSystem
	if ws.Exited() && ws.ExitStatus() != 0 {
		sv.stopping.exit = ws.ExitStatus()
	} else {
		sv.log.Error("supervisor: the first master exited before it served", "pid", c.pid, "status", spawn.Describe(ws))
	}
	sv.killAll("the first master has failed")
}

// restartFailed: a master that was started again has exited before it had taken over.
func (m *masters) restartFailed(c *masterConn, ws unix.WaitStatus) {
	if m.sv.stopping.begun() {
		return
	}
	m.sv.log.Error("supervisor: the restarted master died", "pid", c.pid, "status", spawn.Describe(ws))
	m.planRestart(0)
}
