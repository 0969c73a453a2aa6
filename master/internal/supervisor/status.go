package supervisor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/spawn"
	"baton/master/internal/status"
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

// Problems of the supervisor's own, which the status has among its warnings.
const (
	problemFollow  = "follow"
	problemControl = "control"
)

// setProblem notes what is wrong with something, or that nothing is any more.
func (sv *supervisor) setProblem(with, text string) {
	if text == "" {
		delete(sv.problems, with)
		return
	}
	if sv.problems == nil {
		sv.problems = map[string]string{}
	}
	sv.problems[with] = text
}

func (sv *supervisor) warnings() []string {
	var all []string
	for _, with := range slices.Sorted(maps.Keys(sv.problems)) {
		all = append(all, sv.problems[with])
	}
	if n, why := sv.sink.Missing(); n > 0 {
		all = append(all, fmt.Sprintf("log: %d lines of the supervisor are lost: %s", n, cmp.Or(why, "nobody reads it")))
	}
	return all
}

// askStatus answers with what the master says, and without it when that takes too long.
func (sv *supervisor) askStatus(asked time.Time) look {
	sv.lastQuery++
	id := sv.lastQuery
	var told *session
	sv.statuses[id] = nil
	return func(now time.Time) (a answer, done bool, until time.Time) {
		if st := sv.statuses[id]; st != nil {
			delete(sv.statuses, id)
			return answer{value: sv.complete(*st)}, true, until
		}
		if s := sv.current; s != nil && s != told {
			told = s
			sv.post(message.StatusRequest{ID: id})
		}
		if until = asked.Add(sv.statusPatience()); now.Before(until) {
			return answer{}, false, until
		}
		delete(sv.statuses, id)
		return answer{value: sv.status()}, true, until
	}
}

// statusPatience is how long the master's part is waited for. There may be none, and none on its way.
func (sv *supervisor) statusPatience() time.Duration {
	switch {
	case sv.generation == 0 || sv.current == nil && sv.starting == nil && !sv.dl.restart.IsZero() && time.Until(sv.dl.restart) > 0:
		return 0
	case sv.current == nil:
		return absentLimit
	}
	return statusLimit
}

// onStatus is the master's answer, in a memory file.
func (sv *supervisor) onStatus(m message.StatusAnswer, p *seqpacket.Packet) error {
	if _, asked := sv.statuses[m.ID]; !asked || len(p.FDs) == 0 {
		return nil
	}
	b, err := spawn.ReadMemory(p.FDs[0])
	if err != nil {
		return fmt.Errorf("status: %w", err)
	}
	st := &status.Status{}
	if err := json.Unmarshal(b, st); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	sv.statuses[m.ID] = st
	return nil
}

// complete adds to what a master says what only the supervisor knows.
func (sv *supervisor) complete(st status.Status) status.Status {
	st.Generation = sv.generation
	st.SupervisorPID, st.Supervisor, st.Started, st.MasterRestarts = sv.pid, sv.opts.Version, sv.started, sv.restarts
	st.LastReload = sv.lastReload()
	st.Warnings = append(st.Warnings, sv.warnings()...)
	switch {
	case sv.stopping:
		st.State = "stopping"
	case sv.attempt != nil:
		st.State = "reloading"
	}
	return st
}

// absence says in words why there is no master, and when there may be one.
func (sv *supervisor) absence() string {
	next := "the next one is starting"
	switch {
	case sv.generation == 0:
		return "baton is starting, nothing serves yet"
	case sv.stopping:
		next = "everything is stopping"
	case sv.starting == nil:
		next = fmt.Sprintf("the next start is in %v", max(0, time.Until(sv.dl.restart)).Round(100*time.Millisecond))
	}
	how := sv.lastDeath
	if how == "" {
		how = "not known yet"
	}
	return fmt.Sprintf("there is no master, the workers serve on: it died %d times in a row, last: %s; %s", sv.deaths, how, next)
}

// status is the status without a master's part. What only workers and masters know is missing.
func (sv *supervisor) status() status.Status {
	var st status.Status
	_ = json.Unmarshal([]byte(sv.registry[EntryStats].data), &st) // what the masters have counted
	var slots message.Slots
	_ = json.Unmarshal([]byte(sv.registry[EntryCount].data), &slots)
	st.Version, st.State = sv.registry[EntryExe].data, "serving"
	st.WorkersWanted, st.WorkersConfig = slots.Count, slots.Config
	st.Workers, st.Listeners = sv.workers(), sv.listeners()
	st.Crashing = []status.CrashingSlot{}
	switch s := sv.current; {
	case s != nil:
		st.MasterPID = s.pid
		st.Warnings = []string{sv.silence(s) + "; what only the master knows is missing"}
	case sv.generation == 0:
		st.State = "starting"
	default:
		st.State, st.Warnings = "no master", []string{sv.absence()}
	}
	return sv.complete(st)
}

// workers are those of the registry, which the supervisor itself asks nothing.
func (sv *supervisor) workers() []status.Worker {
	all := []status.Worker{}
	for _, name := range sv.registry.names(EntryWorker + "/") {
		pid := WorkerPID(name)
		var r message.WorkerRecord
		if _, dead := sv.dead[pid]; dead || wire.Unmarshal([]byte(sv.registry[name].data), &r) != nil {
			continue
		}
		w := status.Worker{
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
	status.SortWorkers(all)
	return all
}

// listeners are the addresses of the registry's listen. What the user calls them is not known here.
func (sv *supervisor) listeners() []status.Listener {
	var all []status.Listener
	seen := map[string]bool{}
	for _, name := range sv.registry.names(EntryListen + "/") {
		address := listen.Local(sv.registry[name].fd)
		if !seen[address] {
			all = append(all, status.Listener{Name: address, Address: address})
		}
		seen[address] = true
	}
	return all
}
