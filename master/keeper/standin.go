package keeper

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"baton/master/internal/control"
	"baton/master/internal/sockets"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// answerAfter is how long nobody answers on the control socket after a master's death: the next one is there much sooner,
// and then answers those who have waited.
const answerAfter = time.Second

// restartLimit is how long a master may take to adopt the workers of a dead one. It starts nothing, and reads no file.
const restartLimit = 10 * time.Second

// standIn answers on the control socket until there is a master.
func (k *keeper) standIn() {
	e, ok := k.store[EntryControl]
	if !ok || k.current != nil || k.control != nil {
		return
	}
	fd, err := seqpacket.Dup(e.fd)
	if err != nil {
		k.log.Error("keeper: control socket", "error", err)
		return
	}
	ln, err := control.Listener(fd)
	if err != nil {
		k.log.Error("keeper: control socket", "error", err)
		return
	}
	k.control = control.Serve(ln, k.pid, standIn{k})
}

// standDown leaves the control socket to a master. Nobody is waited for.
func (k *keeper) standDown() {
	if k.control != nil {
		go k.control.Close(time.Second)
		k.control = nil
	}
}

// standIn is what the control socket can do without a master: it says so, and stops everything.
//
// Threading: its methods are called by the control socket's goroutines, and run on the loop.
type standIn struct{ k *keeper }

func (s standIn) call(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	run := func() {
		if s.k.current != nil {
			done <- control.ErrSuperseded
			return
		}
		done <- f()
	}
	select {
	case s.k.calls <- run:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s standIn) refuse() error {
	return &control.AbsentError{Reason: s.k.absence(), Again: time.Until(s.k.dl.restart)}
}

// Status is what the keeper knows.
func (s standIn) Status(ctx context.Context) (st any, err error) {
	err = s.call(ctx, func() error { st = s.k.status(); return nil })
	return st, err
}

// Stop stops everything.
func (s standIn) Stop(ctx context.Context, quit, now bool) error {
	return s.call(ctx, func() error { s.k.stop(wire.Stop{Quit: quit, Now: now}); return nil })
}

// Reload needs a master.
func (s standIn) Reload(ctx context.Context) (int64, error) { return 0, s.call(ctx, s.refuse) }

// Await needs a master.
func (s standIn) Await(ctx context.Context, _ int64, _ bool) (any, error) {
	return nil, s.call(ctx, s.refuse)
}

// Resize needs a master.
func (s standIn) Resize(ctx context.Context, _ int) error { return s.call(ctx, s.refuse) }

// absence says in words why there is no master, and when there may be one.
func (k *keeper) absence() string {
	next := "the next one is starting"
	switch {
	case k.stopping:
		next = "everything is stopping"
	case k.starting == 0:
		next = fmt.Sprintf("the next start is in %v", max(0, time.Until(k.dl.restart)).Round(100*time.Millisecond))
	}
	how := k.lastDeath
	if how == "" {
		how = "not known yet"
	}
	return fmt.Sprintf("there is no master, the workers serve on: it died %d times in a row, last: %s; %s", k.deaths, how, next)
}

// status is the status without a master. What only workers and masters know is missing.
func (k *keeper) status() wire.Status {
	var st wire.Status
	_ = json.Unmarshal([]byte(k.store[EntryStats].data), &st) // what the masters have counted
	var slots wire.Slots
	_ = json.Unmarshal([]byte(k.store[EntryCount].data), &slots)
	st.Generation, st.Version, st.State = k.generation, k.store[EntryExe].data, "no master"
	st.KeeperPID, st.Keeper, st.Started, st.MasterRestarts = k.pid, k.opts.Version, k.started, k.restarts
	st.WorkersWanted, st.WorkersConfig = slots.Count, slots.Config
	st.Workers, st.Listeners = k.workers(), k.listeners()
	st.Crashing = []wire.CrashingSlot{}
	st.LastReload = wire.ReloadStatus{OK: true}
	if n := len(k.results); n > 0 {
		st.LastReload = k.results[n-1].Report()
	}
	st.Warnings = []string{k.absence()}
	if k.follow.problem != "" {
		st.Warnings = append(st.Warnings, k.follow.problem)
	}
	if k.stopping {
		st.State = "stopping"
	}
	return st
}

// workers are those of the store, which the keeper itself asks nothing.
func (k *keeper) workers() []wire.WorkerStatus {
	all := []wire.WorkerStatus{}
	for _, name := range k.store.names(EntryWorker + "/") {
		pid := WorkerPID(name)
		var r wire.WorkerRecord
		if _, dead := k.dead[pid]; dead || wire.Unmarshal([]byte(k.store[name].data), &r) != nil {
			continue
		}
		w := wire.WorkerStatus{
			Generation: r.Generation, Slot: r.Slot, PID: pid, State: "serving", Silent: true,
			Age: float64(time.Now().UnixMilli()-r.Started) / 1000,
		}
		switch {
		case r.Draining:
			w.State = "draining"
		case r.Starting:
			w.State = "starting"
		}
		all = append(all, w)
	}
	wire.SortWorkers(all)
	return all
}

// listeners are the addresses of the store's sockets. What the user calls them is not known here.
func (k *keeper) listeners() []wire.ListenerStatus {
	var all []wire.ListenerStatus
	seen := map[string]bool{}
	for _, name := range k.store.names(EntryListen + "/") {
		address := sockets.Local(k.store[name].fd)
		if !seen[address] {
			all = append(all, wire.ListenerStatus{Name: address, Address: address})
		}
		seen[address] = true
	}
	return all
}
