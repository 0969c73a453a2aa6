package supervisor

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// orphanGrace is what an orphan has between TERM and KILL.
const orphanGrace = time.Second

// An orphan is a child that is no master and no worker: an orphan that came to this process as its reaper, or a process
// that a shell had started before it executed baton. In a container, where this process is PID 1, that is everything that
// lost its parent.
//
// While baton serves, orphans are reaped and else left alone. At a stop they do not hold it up: when nobody else is
// left they get TERM, and KILL a second later, or at the end of the stop's time if that is earlier.
func (sv *supervisor) terminateOrphans(now time.Time) {
	if sv.orphansTerminated || sv.killing || sv.live > 0 {
		return
	}
	left := children(sv.pid)
	if slices.ContainsFunc(left, sv.isOurs) {
		return
	}
	sv.orphansTerminated = true
	for _, pid := range left {
		_ = unix.Kill(pid, unix.SIGTERM)
	}
	if end := now.Add(orphanGrace); sv.dl.kill.IsZero() || end.Before(sv.dl.kill) {
		sv.dl.kill = end
	}
	sv.log.Info("supervisor: only processes of others are left, ending them", "number", len(left))
}

// isOurs reports whether a child is a master or a worker.
func (sv *supervisor) isOurs(pid int) bool {
	_, isWorker := sv.registry[WorkerEntry(pid)]
	return isWorker || slices.Contains(sv.leaving, pid) || sv.masterOf(pid) != nil
}
