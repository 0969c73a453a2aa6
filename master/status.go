package master

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/control"
	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/spawn"
	"baton/master/internal/status"
	"baton/worker/wire"
)

// What the control socket says.
type (
	// Status is what `baton status --json` prints and GET /status on the control socket answers.
	Status = status.Status

	// HandoverStatus counts idle connections on their way between workers.
	HandoverStatus = status.Handover

	// WorkerStatus is one worker process.
	WorkerStatus = status.Worker

	// CrashingSlot is a slot in trouble.
	CrashingSlot = status.CrashingSlot

	// ListenerStatus is one address that is served.
	ListenerStatus = status.Listener

	// ReloadStatus is how the last reload ended. Before the first one OK is true.
	ReloadStatus = status.Reload

	// Identity answers GET /version.
	Identity = status.Identity

	// ReloadAnswer answers POST /reload and GET /reload/ID.
	ReloadAnswer = status.ReloadAnswer

	// Client asks the baton behind a control socket.
	Client = control.Client

	// ControlError is an answer on the control socket with another status than a success.
	ControlError = control.Error
)

// NewClient returns a client of the control socket at path.
func NewClient(path string) *Client { return control.NewClient(path) }

// query is the supervisor's question for the status, and the workers that have not answered yet.
type query struct {
	id      int64
	waiting map[int]bool // by PID
	end     monotime.Time
}

// queries are those that are not answered.
type queries []query

// statsTimeout is how long a worker may take to answer a status request.
const statsTimeout = 500 * time.Millisecond

// ask asks every worker for its counts.
func (q *queries) ask(id int64, workers map[int]*proc) {
	one := query{id: id, waiting: map[int]bool{}, end: monotime.Now().Add(statsTimeout)}
	for pid, p := range workers {
		if p.conn.Post(wire.StatsRequest{ID: id}) == nil {
			one.waiting[pid] = true
		}
	}
	*q = append(*q, one)
}

// answered notes that a worker has answered.
func (q queries) answered(p *proc) {
	for _, one := range q {
		if one.id == p.stats.ID {
			delete(one.waiting, p.PID)
		}
	}
}

// take removes the queries that need to wait no longer, and returns when to look at the others again.
func (q *queries) take(workers map[int]*proc, now monotime.Time) (done queries, next monotime.Time) {
	var left queries
	for _, one := range *q {
		maps.DeleteFunc(one.waiting, func(pid int, _ bool) bool { return workers[pid] == nil })
		if len(one.waiting) == 0 || one.end <= now {
			done = append(done, one)
			continue
		}
		left = append(left, one)
		next = monotime.Earliest(next, one.end)
	}
	*q = left
	return done, next
}

// checkQueries answers those that are complete or have waited long enough, and returns when to look again.
func (m *master) checkQueries(now monotime.Time) (next monotime.Time) {
	done, next := m.queries.take(m.procs, now)
	for _, q := range done {
		if err := m.answer(q.id, m.status(q.waiting)); err != nil {
			m.log.Error("master: status", "error", err)
		}
	}
	return next
}

// answer gives the supervisor a memory file: a message would be too small for many workers.
func (r *registry) answer(id int64, st Status) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	fd, err := spawn.Memory("status", b)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return r.supervisor.Post(message.StatusAnswer{ID: id}, fd)
}

// status is what the master knows; the supervisor adds what it knows itself. silent are the workers that have not
// answered.
func (m *master) status(silent map[int]bool) Status {
	crashing, crashes := m.crashes.Report(m.view(monotime.Now()))
	var gone []string
	if !m.phase.isStopping() {
		gone = missing(m.paths())
	}
	st := Status{
		Generation: m.gen, Version: m.opts.Version, MasterPID: os.Getpid(), State: m.phase.state(m.upgrading != ""),
		WorkersWanted: m.desired, WorkersConfig: m.cfg.workers(), Workers: []WorkerStatus{},
		Crashes: m.counts.Crashes, Recycled: m.counts.Recycled, Hung: m.counts.Hung,
		CutRequests: m.counts.CutRequests, CutConnections: m.counts.CutConnections,
		Crashing: crashing, Listeners: m.sockets.Status(),
		Warnings: slices.Concat(
			m.warnings.list(), crashes, m.recycling.Warnings(), gone, m.missingLines(m.procs),
		),
	}
	handed := m.counts.Handed
	for _, p := range m.procs {
		if !p.bye { // otherwise it is in the sum already
			handed.Add(p.stats.Handed)
		}
		w := p.report(silent[p.PID])
		if p.State == plan.Serving && m.isReplaced(p) {
			w.State = "recycling"
		}
		st.Workers = append(st.Workers, w)
	}
	st.Handover = HandoverStatus(handed)
	status.SortWorkers(st.Workers)
	return st
}

// state is the word for a phase; reloading is set while a successor starts.
func (p phase) state(reloading bool) string {
	switch {
	case p.isStopping():
		return "stopping"
	case reloading || !p.isAlone(): // the predecessor's workers serve still, and are not in the list yet
		return "reloading"
	}
	return "serving"
}

func (p *proc) report(silent bool) WorkerStatus {
	w := WorkerStatus{
		Generation: p.Generation, Slot: p.Slot, PID: p.PID, State: p.State.String(), Silent: silent,
		Age: monotime.Now().Sub(monotime.Time(p.record.Started)).Seconds(),
	}
	if !silent {
		w.Requests, w.Connections, w.Active = p.stats.Requests, p.stats.Conns, p.stats.Active
		w.Held, w.Shed = p.stats.AcceptPaused, p.stats.IdleEvicted
		w.Instance = p.stats.Instance
	}
	return w
}
