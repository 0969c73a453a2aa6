package master

import (
	"os"

	"baton/master/internal/control"
	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/master/internal/status"
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

// status is the answer to a query. The supervisor adds what it knows itself.
func (m *master) status(q *query) Status {
	st := Status{
		Generation: m.gen, Version: m.opts.Version, MasterPID: os.Getpid(), State: m.state(),
		WorkersWanted: m.want, WorkersConfig: m.cfg.workers(), Workers: []WorkerStatus{},
		Crashes: m.counts.Crashes, Recycled: m.counts.Recycled, Hung: m.counts.Hung,
		CutRequests: m.counts.CutRequests, CutConnections: m.counts.CutConnections,
	}
	st.Crashing, st.Warnings = m.crashReport()
	st.Warnings = append(st.Warnings, m.recycling.Warnings()...)
	st.Warnings = append(st.Warnings, m.missingFiles()...)
	st.Warnings = append(st.Warnings, m.missingLines()...)
	handed := m.counts.Handed
	for _, p := range m.procs {
		if !p.bye { // else it is in the sum already
			handed.Add(p.stats.Handed)
		}
		w := p.report(q.waiting[p.PID])
		if p.State == plan.Serving && m.replacementOf(p) != nil {
			w.State = "recycling"
		}
		st.Workers = append(st.Workers, w)
	}
	st.Handover = HandoverStatus(handed)
	status.SortWorkers(st.Workers)
	st.Listeners = m.sockets.Status()
	return st
}

func (m *master) state() string {
	switch {
	case m.phase.isStopping():
		return "stopping"
	case m.upgrading != "" || !m.phase.isAlone(): // the predecessor's workers serve still, and are not in the list yet
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
	}
	return w
}
