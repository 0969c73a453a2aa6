package keeper

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// strangerGrace is what a stranger has between TERM and KILL.
const strangerGrace = time.Second

// A stranger is a child that is no master and no worker: an orphan that came to this process as its reaper, or a process
// that a shell had started before it executed baton. In a container, where this process is PID 1, that is everything that
// lost its parent.
//
// While baton serves, strangers are reaped and else left alone. At a stop they do not hold it up: when nobody else is
// left they get TERM, and KILL a second later, or at the end of the stop's time if that is earlier.
func (k *keeper) dismissStrangers(now time.Time) {
	if k.dismissed || k.killing || k.live > 0 {
		return
	}
	left := children(k.pid)
	if slices.ContainsFunc(left, k.isOurs) {
		return
	}
	k.dismissed = true
	for _, pid := range left {
		_ = unix.Kill(pid, unix.SIGTERM)
	}
	if end := now.Add(strangerGrace); k.dl.kill.IsZero() || end.Before(k.dl.kill) {
		k.dl.kill = end
	}
	k.log.Info("keeper: only processes of others are left, ending them", "number", len(left))
}

// isOurs reports whether a child is a master or a worker.
func (k *keeper) isOurs(pid int) bool {
	_, isWorker := k.store[WorkerEntry(pid)]
	return isWorker || slices.Contains(k.leaving, pid) || k.masterOf(pid) != nil
}
