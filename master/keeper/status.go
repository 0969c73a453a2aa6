package keeper

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"baton/master/internal/monotime"
	"baton/master/internal/sockets"
	"baton/master/internal/spawn"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// How long the status waits for the master's part of it: more than a master waits for its workers, or, while there is no
// master, as long as the next one mostly takes.
const (
	statusLimit = 3 * time.Second
	absentLimit = time.Second
)

// restartLimit is how long a master may take to adopt the workers of a dead one. It starts nothing, and reads no file.
const restartLimit = 10 * time.Second

// Problems of the keeper's own, which the status has among its warnings.
const (
	problemFollow  = "follow"
	problemControl = "control"
)

// setProblem notes what is wrong with something, or that nothing is any more.
func (k *keeper) setProblem(with, text string) {
	if text == "" {
		delete(k.problems, with)
		return
	}
	if k.problems == nil {
		k.problems = map[string]string{}
	}
	k.problems[with] = text
}

func (k *keeper) warnings() []string {
	var all []string
	for _, with := range slices.Sorted(maps.Keys(k.problems)) {
		all = append(all, k.problems[with])
	}
	if n, why := k.sink.Missing(); n > 0 {
		all = append(all, fmt.Sprintf("log: %d lines of the keeper are lost: %s", n, cmp.Or(why, "nobody reads it")))
	}
	return all
}

// askStatus answers with what the master says, and without it when that takes too long.
func (k *keeper) askStatus(asked time.Time) look {
	k.lastQuery++
	id := k.lastQuery
	var told *session
	k.statuses[id] = nil
	return func(now time.Time) (a answer, done bool, until time.Time) {
		if st := k.statuses[id]; st != nil {
			delete(k.statuses, id)
			return answer{value: k.complete(*st)}, true, until
		}
		if s := k.current; s != nil && s != told {
			told = s
			k.post(wire.StatusRequest{ID: id})
		}
		if until = asked.Add(k.statusPatience()); now.Before(until) {
			return answer{}, false, until
		}
		delete(k.statuses, id)
		return answer{value: k.status()}, true, until
	}
}

// statusPatience is how long the master's part is waited for. There may be none, and none on its way.
func (k *keeper) statusPatience() time.Duration {
	switch {
	case k.generation == 0 || k.current == nil && k.starting == nil && !k.dl.restart.IsZero() && time.Until(k.dl.restart) > 0:
		return 0
	case k.current == nil:
		return absentLimit
	}
	return statusLimit
}

// onStatus is the master's answer, in a memory file.
func (k *keeper) onStatus(m wire.StatusAnswer, p *seqpacket.Packet) error {
	if _, asked := k.statuses[m.ID]; !asked || len(p.FDs) == 0 {
		return nil
	}
	b, err := spawn.ReadMemory(p.FDs[0])
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	st := &wire.Status{}
	if err := json.Unmarshal(b, st); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	k.statuses[m.ID] = st
	return nil
}

// complete adds to what a master says what only the keeper knows.
func (k *keeper) complete(st wire.Status) wire.Status {
	st.Generation = k.generation
	st.KeeperPID, st.Keeper, st.Started, st.MasterRestarts = k.pid, k.opts.Version, k.started, k.restarts
	st.LastReload = k.lastReload()
	st.Warnings = append(st.Warnings, k.warnings()...)
	switch {
	case k.stopping:
		st.State = "stopping"
	case k.attempt != nil:
		st.State = "reloading"
	}
	return st
}

// absence says in words why there is no master, and when there may be one.
func (k *keeper) absence() string {
	next := "the next one is starting"
	switch {
	case k.generation == 0:
		return "baton is starting, nothing serves yet"
	case k.stopping:
		next = "everything is stopping"
	case k.starting == nil:
		next = fmt.Sprintf("the next start is in %v", max(0, time.Until(k.dl.restart)).Round(100*time.Millisecond))
	}
	how := k.lastDeath
	if how == "" {
		how = "not known yet"
	}
	return fmt.Sprintf("there is no master, the workers serve on: it died %d times in a row, last: %s; %s", k.deaths, how, next)
}

// status is the status without a master's part. What only workers and masters know is missing.
func (k *keeper) status() wire.Status {
	var st wire.Status
	_ = json.Unmarshal([]byte(k.store[EntryStats].data), &st) // what the masters have counted
	var slots wire.Slots
	_ = json.Unmarshal([]byte(k.store[EntryCount].data), &slots)
	st.Version, st.State = k.store[EntryExe].data, "serving"
	st.WorkersWanted, st.WorkersConfig = slots.Count, slots.Config
	st.Workers, st.Listeners = k.workers(), k.listeners()
	st.Crashing = []wire.CrashingSlot{}
	switch s := k.current; {
	case s != nil:
		st.MasterPID = s.pid
		st.Warnings = []string{k.silence(s) + "; what only the master knows is missing"}
	case k.generation == 0:
		st.State = "starting"
	default:
		st.State, st.Warnings = "no master", []string{k.absence()}
	}
	return k.complete(st)
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
			Age: monotime.Now().Sub(monotime.Time(r.Started)).Seconds(),
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
