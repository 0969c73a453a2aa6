package master

import (
	"encoding/json"

	"baton/master/internal/message"
	"baton/master/internal/supervisor"
	"baton/worker/wire"
)

// cuts are what deadlines have cut.
type cuts struct {
	CutRequests    int64 `json:"cut_requests"`
	CutConnections int64 `json:"cut_connections"`
}

// counts outlive the masters that count, in the supervisor's registry.
type counts struct {
	cuts
	Crashes  int64 `json:"crashes"`
	Recycled int64 `json:"recycled"`
	Hung     int64 `json:"hung"`

	Handed wire.HandoverCounts `json:"handed"` // by workers that have gone
}

// recallCounts takes over what the predecessors have counted.
func (m *master) recallCounts() {
	mine := m.counts
	if it, ok := m.claim(supervisor.EntryStats); ok {
		var c counts
		if json.Unmarshal([]byte(it.data), &c) == nil {
			m.counts = c
		}
	}
	m.counts.Crashes += mine.Crashes
	m.counts.Recycled += mine.Recycled
	m.counts.Hung += mine.Hung
	m.counts.Handed.Add(mine.Handed)
	m.counts.CutRequests += mine.CutRequests
	m.counts.CutConnections += mine.CutConnections
	m.saveCounts()
}

func (m *master) saveCounts() {
	if m.phase.isAlone() {
		m.store(supervisor.EntryStats, m.counts, -1)
	}
}

func (m *master) countCut(gen int, b wire.Bye) {
	if b.CutRequests+b.CutConns == 0 && b.Handed == (wire.HandoverCounts{}) {
		return
	}
	m.counts.Handed.Add(b.Handed)
	if b.CutRequests+b.CutConns > 0 {
		_ = m.supervisor.Post(message.Cut{Generation: gen, Requests: b.CutRequests, Connections: b.CutConns})
	}
	m.counts.CutRequests += b.CutRequests
	m.counts.CutConnections += b.CutConns
	m.saveCounts()
}
