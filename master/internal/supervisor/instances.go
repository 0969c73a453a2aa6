package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/master/internal/status"
)

// instances are the processes of somebody else's programs that have lost the worker that ran them, and came to this
// process as its reaper. None of them may stay: they have got the stop signal when the worker died, and are killed at
// a deadline.
type instances struct {
	orphaned []int // processes
	killAt   time.Time
}

// instance is a process that runs a program: its worker's place is in its environment.
type instance struct {
	generation, slot int
	started          monotime.Time // to 10 ms
}

// endInstances is called when children have been reaped: some of theirs may be children of this process now.
func (sv *supervisor) endInstances(now time.Time) {
	sv.instances.orphaned = nil
	for _, pid := range sv.kernel.children() {
		if sv.isOurs(pid) {
			continue
		}
		if i, ok := sv.kernel.instanceOf(pid); ok && !sv.hasWorkerOf(i) {
			sv.instances.orphaned = append(sv.instances.orphaned, pid)
		}
	}
	switch {
	case len(sv.instances.orphaned) == 0:
		sv.instances.killAt = time.Time{}
	case sv.instances.killAt.IsZero():
		sv.instances.killAt = now.Add(orphanGrace)
		sv.log.Info("supervisor: ending the instances of a worker that has died", "pids", sv.instances.orphaned)
		sv.signalInstances(unix.SIGTERM)
	}
}

// signalInstances signals their groups, for theirs are the children that they have.
func (sv *supervisor) signalInstances(sig unix.Signal) {
	for _, pid := range sv.instances.orphaned {
		sv.kernel.signalGroup(pid, sig)
	}
}

// hasWorkerOf reports whether the worker is there for which a process runs, and not one that has taken its place: a
// program may start processes that leave it.
func (sv *supervisor) hasWorkerOf(i instance) bool {
	age := monotime.Now().Sub(i.started).Seconds()
	return slices.ContainsFunc(sv.workers(), func(w status.Worker) bool {
		return w.Generation == i.generation && w.Slot == i.slot && w.Age >= age
	})
}

// instanceOf reads it from the environment.
func (linux) instanceOf(pid int) (i instance, ok bool) {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	found := 0
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		name, value, _ := bytes.Cut(kv, []byte("="))
		n, err := strconv.Atoi(string(value))
		switch {
		case err != nil:
		case string(name) == "BATON_SLOT":
			i.slot, found = n, found+1
		case string(name) == "BATON_GENERATION":
			i.generation, found = n, found+1
		}
	}
	if found < 2 {
		return i, false
	}
	i.started = startOf(pid)
	return i, true
}

// startOf returns when a process was started.
func startOf(pid int) monotime.Time {
	const field, tick = 20, 10 * time.Millisecond // starttime, behind the name and the state; in hundredths of a second
	fields := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if len(fields) < field {
		return 0
	}
	n, _ := strconv.ParseInt(fields[field-1], 10, 64)
	return monotime.Time(n * int64(tick))
}

// signalGroup signals the group of a child, or only the child if its group is this process's.
func (linux) signalGroup(pid int, sig unix.Signal) {
	if group, err := unix.Getpgid(pid); err == nil && group != unix.Getpgrp() {
		pid = -group
	}
	_ = unix.Kill(pid, sig)
}
