package master

import (
	"cmp"
	"os"
	"slices"
	"time"

	"baton/master/internal/sockets"
)

// status is the answer to a query.
func (m *master) status(q *query) Status {
	st := Status{
		Generation: m.gen, Version: m.opts.Version, KeeperPID: m.welcome.KeeperPID, MasterPID: os.Getpid(),
		Keeper: m.welcome.KeeperVer, Started: time.Unix(m.welcome.Started, 0),
		WorkersWanted: m.want, WorkersConfig: m.cfg.workers(), State: m.state(),
		Workers: []WorkerStatus{}, Crashes: m.counts.Crashes,
		CutRequests: m.counts.CutRequests, CutConnections: m.counts.CutConnections, LastReload: m.lastReload(),
	}
	st.Crashing, st.Warnings = m.crashReport()
	handed := m.counts.Handed
	for _, p := range m.procs {
		if !p.bye { // else it is in the sum already
			handed.Add(p.stats.Handed)
		}
		st.Workers = append(st.Workers, p.report(q.waiting[p.pid]))
	}
	st.Handover = HandoverStatus(handed)
	slices.SortFunc(st.Workers, func(a, b WorkerStatus) int {
		return cmp.Or(cmp.Compare(b.Generation, a.Generation), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.PID, b.PID))
	})
	for _, s := range m.sockets {
		if s.extra || s.Slot > 0 {
			continue
		}
		st.Listeners = append(st.Listeners, ListenerStatus{Name: s.name(), Address: sockets.Local(s.fd)})
	}
	return st
}

func (m *master) state() string {
	switch {
	case m.stopping:
		return "stopping"
	case m.upgrading != "" || !m.known: // the predecessor's workers serve still, and are not in the list yet
		return "reloading"
	}
	return "serving"
}

func (m *master) lastReload() ReloadStatus {
	if len(m.results) == 0 {
		return ReloadStatus{OK: true}
	}
	r := m.results[len(m.results)-1]
	return ReloadStatus{ID: r.Seen, OK: r.OK, Error: r.Error, At: time.UnixMilli(r.At)}
}

func (p *proc) report(silent bool) WorkerStatus {
	w := WorkerStatus{
		Generation: p.gen, Slot: p.slot, PID: p.pid, State: p.state.String(), Silent: silent,
		Age: float64(time.Now().UnixMilli()-p.record.Started) / 1000,
	}
	if !silent {
		w.Requests, w.Connections, w.Active = p.stats.Requests, p.stats.Conns, p.stats.Active
		w.Held, w.Shed = p.stats.Held, p.stats.Shed
	}
	return w
}
