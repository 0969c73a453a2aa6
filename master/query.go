package master

import (
	"encoding/json"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/message"
	"baton/master/internal/monotime"
	"baton/master/internal/spawn"
	"baton/worker/wire"
)

// query is the supervisor's question for the status, and the workers that have not answered yet.
type query struct {
	id      int64
	waiting map[int]bool // by PID
	end     monotime.Time
}

// silence is how long a worker may take to answer a status request.
const silence = 500 * time.Millisecond

// ask asks every worker for its counts; one that does not answer in time is listed as silent.
func (m *master) ask(r message.StatusRequest) {
	q := &query{id: r.ID, waiting: map[int]bool{}, end: monotime.Now().Add(silence)}
	for pid, p := range m.procs {
		if p.conn.Post(wire.StatsRequest{ID: q.id}) == nil {
			q.waiting[pid] = true
		}
	}
	m.queries = append(m.queries, q)
}

func (m *master) gotStats(p *proc) {
	for _, q := range m.queries {
		if q.id == p.stats.ID {
			delete(q.waiting, p.PID)
		}
	}
}

// checkQueries answers those that are complete or have waited long enough, and returns when to look again.
func (m *master) checkQueries(next monotime.Time) monotime.Time {
	var left []*query
	for _, q := range m.queries {
		for pid := range q.waiting {
			if m.procs[pid] == nil {
				delete(q.waiting, pid)
			}
		}
		if len(q.waiting) == 0 || m.phase.isOver() || q.end <= monotime.Now() {
			if err := m.answerQuery(q); err != nil {
				m.log.Error("master: status", "error", err)
			}
			continue
		}
		left = append(left, q)
		if next == 0 || q.end < next {
			next = q.end
		}
	}
	m.queries = left
	return next
}

// answerQuery gives the supervisor a memory file: a message would be too small for many workers.
func (m *master) answerQuery(q *query) error {
	b, err := json.Marshal(m.status(q))
	if err != nil {
		return err
	}
	fd, err := spawn.Memory("status", b)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return m.supervisor.Post(message.StatusAnswer{ID: q.id}, fd)
}
