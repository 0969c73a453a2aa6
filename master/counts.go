package master

import (
	"encoding/json"

	"baton/master/internal/supervisor"
	"baton/worker/wire"
)

// counts outlive the masters that count, in the registry.
type counts struct {
	CutRequests    int64 `json:"cut_requests"` // what deadlines have cut
	CutConnections int64 `json:"cut_connections"`
	Crashes        int64 `json:"crashes"`
	Recycled       int64 `json:"recycled"`
	Hung           int64 `json:"hung"`

	Handed wire.HandoverCounts `json:"handed"` // by workers that have exited
}

// count has add change the counts. Before this is the only master they are not in the registry: the predecessor's are.
func (m *master) count(add func(*counts)) {
	before := m.counts
	add(&m.counts)
	if m.counts != before && m.phase.isAlone() {
		m.store(supervisor.EntryStats, m.counts, -1)
	}
}

// recallCounts adds what the predecessors have counted.
func (m *master) recallCounts() {
	e, _ := m.claim(supervisor.EntryStats)
	var c counts
	if json.Unmarshal([]byte(e.data), &c) != nil {
		return
	}
	m.count(func(sum *counts) {
		sum.CutRequests += c.CutRequests
		sum.CutConnections += c.CutConnections
		sum.Crashes += c.Crashes
		sum.Recycled += c.Recycled
		sum.Hung += c.Hung
		sum.Handed.Add(c.Handed)
	})
}
