package supervisor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"baton/master/internal/listen"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/spawn"
	"baton/master/internal/status"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// How long the status waits for the master's part of it: more than a master waits for its workers, or, while there is
// no master, as long as the next one mostly takes.
const (
	statusLimit = 3 * time.Second
	absentLimit = time.Second
)

// problems of the supervisor's own, which the status has among its warnings; empty: none.
type problems struct{ reexec, control string }

func (f *front) warnings() (all []string) {
	for _, text := range []string{f.problems.control, f.problems.reexec} {
		if text != "" {
			all = append(all, text)
		}
	}
	if n, why := f.sv.sink.Missing(); n > 0 {
		why = cmp.Or(why, "nobody reads it")
		all = append(all, fmt.Sprintf("log: %d lines of the supervisor are lost: %s", n, why))
	}
	return all
}

// statuses are those that the master is asked for.
type statuses struct {
	answers map[int64]*status.Status // by ID; nil: not answered yet
	last    int64                    // ID
}

// askStatus answers with what the master says, and without it when that takes too long.
func (f *front) askStatus(asked time.Time) poll {
	sv := f.sv
	f.statuses.last++
	id := f.statuses.last
	var told *masterConn
	f.statuses.answers[id] = nil
	return func(now time.Time) (a *answer, until time.Time) {
		if st := f.statuses.answers[id]; st != nil {
			delete(f.statuses.answers, id)
			return &answer{value: f.completed(*st)}, until
		}
		if c := sv.current; c != nil && c != told {
			told = c
			sv.post(message.StatusRequest{ID: id})
		}
		if until = asked.Add(f.patienceForStatus()); now.Before(until) {
			return nil, until
		}
		delete(f.statuses.answers, id)
		return &answer{value: f.status()}, until
	}
}

// patienceForStatus is how long the master's part is waited for. There may be none, and none starting.
func (f *front) patienceForStatus() time.Duration {
	sv := f.sv
	switch {
	case sv.generation == 0 || sv.current == nil && sv.starting == nil && time.Until(sv.restarts.at) > 0:
		return 0
	case sv.current == nil:
		return absentLimit
	}
	return statusLimit
}

// onStatus is the master's answer, in a memory file.
func (f *front) onStatus(m message.StatusAnswer, p *seqpacket.Packet) {
	if _, asked := f.statuses.answers[m.ID]; !asked || len(p.FDs) == 0 {
		return
	}
	st := &status.Status{}
	b, err := spawn.ReadMemory(p.FDs[0])
	if err == nil {
		err = json.Unmarshal(b, st)
	}
	if err != nil {
		f.sv.log.Error("supervisor: status of the master", "error", err)
		return
	}
	f.statuses.answers[m.ID] = st
}

// completed adds to what a master says what only the supervisor knows.
func (f *front) completed(st status.Status) status.Status {
	sv := f.sv
	st.Generation = sv.generation
	st.SupervisorPID, st.Supervisor, st.Started = sv.pid, sv.version, sv.started
	st.MasterRestarts, st.LastReload = sv.restarts.Total, sv.results.last()
	st.Warnings = append(st.Warnings, f.warnings()...)
	switch {
	case sv.stopping.begun():
		st.State = "stopping"
	case sv.attempt != nil:
		st.State = "reloading"
	}
	return st
}

// absence says in words why there is no master, and when there may be one.
func (f *front) absence() string {
	sv := f.sv
	next := "the next one is starting"
	switch {
	case sv.generation == 0:
		return "baton is starting, nothing serves yet"
	case sv.stopping.begun():
		next = "everything is stopping"
	case sv.starting == nil:
		next = fmt.Sprintf("the next start is in %v", max(0, time.Until(sv.restarts.at)).Round(100*time.Millisecond))
	}
	return fmt.Sprintf("there is no master, the workers serve on: it died %d times in a row, last: %s; %s",
		sv.restarts.InARow, cmp.Or(sv.restarts.Last, "not known yet"), next)
}

// status is the status without a master's part. What only workers and masters know is missing.
func (f *front) status() status.Status {
	sv := f.sv
	var st status.Status
	_ = json.Unmarshal([]byte(sv.registry[EntryStats].Data), &st) // what the masters have counted
	var slots message.Slots
	_ = json.Unmarshal([]byte(sv.registry[EntryCount].Data), &slots)
	st.Version, st.State = sv.registry[EntryExe].Data, "serving"
	st.WorkersWanted, st.WorkersConfig = slots.Count, slots.Config
	st.Workers, st.Listeners = sv.workers(), sv.listeners()
	st.Crashing = []status.CrashingSlot{}
	switch c := sv.current; {
	case c != nil:
		st.MasterPID = c.pid
		st.Warnings = []string{noAnswer(c) + "; what only the master knows is missing"}
	case sv.generation == 0:
		st.State = "starting"
	default:
		st.State, st.Warnings = "no master", []string{f.absence()}
	}
	return f.completed(st)
}

// workers are those of the registry, which the supervisor itself asks nothing.
func (sv *supervisor) workers() []status.Worker {
	all := []status.Worker{}
	for _, name := range sv.registry.names(EntryWorker + "/") {
		pid := WorkerPID(name)
		var r message.WorkerRecord
		if _, dead := sv.dead[pid]; dead || wire.Unmarshal([]byte(sv.registry[name].Data), &r) != nil {
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

// listeners are the addresses of the registry's sockets. What the user calls them is not known here.
func (sv *supervisor) listeners() []status.Listener {
	var all []status.Listener
	seen := map[string]bool{}
	for _, name := range sv.registry.names(EntryListen + "/") {
		address := listen.Local(sv.registry[name].FD)
		if !seen[address] {
			all = append(all, status.Listener{Name: address, Address: address})
		}
		seen[address] = true
	}
	return all
}

// statusLine is the state in a sentence.
func (sv *supervisor) statusLine() string {
	text := fmt.Sprintf("generation %d serves, workers: %d", sv.generation, sv.size)
	if sv.current == nil {
		text = fmt.Sprintf("generation %d serves; %s", sv.generation, sv.front.absence())
	}
	if n := len(sv.results.All); n > 0 {
		r := sv.results.All[n-1]
		at := r.At.Format(time.TimeOnly)
		if r.OK {
			text += "; last reload: ok, " + at
		} else {
			text += "; last reload failed, " + at + ": " + r.Error
		}
	}
	return text
}

func (sv *supervisor) reloadingText(what string) string {
	return fmt.Sprintf("%s; generation %d serves", what, sv.generation)
}

// sayReloading is called when an attempt begins, and when it turns out to serve requests that came later.
func (sv *supervisor) sayReloading() {
	sv.systemd.Reloading(sv.attempt.seen, sv.reloadingText("reloading"))
}

// sayReady says that nothing is going on any more: the start or the last attempt has ended, well or not.
func (sv *supervisor) sayReady() {
	if !sv.stopping.begun() {
		sv.systemd.Ready(sv.statusLine())
	}
}
