package master

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/monotime"
	"baton/master/internal/plan"
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// takes is what a worker has said that it takes from others, and where it is to be sent.
type takes struct {
	wire.Takes
	fd   int  // meaningful if the worker is a taker
	said bool // to this master
}

// takersWait is how long a restarted master waits until all workers of its generation have said what they take. One
// that does not run says nothing.
const takersWait = time.Second

// drainFrom is when workers may be told to drain, see [plan.View].
func (m *master) drainFrom() monotime.Time {
	for _, p := range m.procs {
		if p.Generation == m.gen && p.State != plan.Draining && !p.takes.said {
			return m.takersBy
		}
	}
	return 0
}

// onTakes notes what a worker takes.
func (m *master) onTakes(p *proc, packet *seqpacket.Packet) {
	m.notTaking(p)
	p.takes.said = true
	if packet.Frame.Into(&p.takes.Takes) != nil || len(packet.FDs) == 0 {
		return
	}
	p.takes.fd, p.Taker = packet.TakeFD(), true
}

func (m *master) notTaking(p *proc) {
	if p.Taker {
		_ = unix.Close(p.takes.fd)
	}
	p.Taker, p.takes = false, takes{}
}

// tellTakers says to every worker that drains who takes its connections, if that is news. Until a restarted master
// knows of somebody, what its predecessor has said holds.
func (m *master) tellTakers() {
	if m.phase.isStopping() {
		return
	}
	v := m.snapshot(monotime.Now())
	for _, p := range m.procs {
		if p.State != plan.Draining || p.eof {
			continue
		}
		pids := v.Takers(p.Worker)
		if news := fmt.Sprint(pids); news != p.told && (len(pids) > 0 || p.told != "") {
			p.told = news
			m.tellTakersTo(p, pids)
		}
	}
}

func (m *master) tellTakersTo(p *proc, pids []int) {
	t := wire.Takers{PIDs: pids}
	var fds []int
	for _, pid := range pids {
		q := m.procs[pid]
		i := slices.IndexFunc(t.Sets, func(keys wire.KeySet) bool { return slices.Equal(keys, q.takes.Keys) })
		if i < 0 {
			i = len(t.Sets)
			t.Sets = append(t.Sets, q.takes.Keys)
		}
		t.Of = append(t.Of, i)
		fds = append(fds, q.takes.fd)
	}
	if err := p.conn.Post(t, fds...); err != nil {
		m.log.Warn("master: takers", "pid", p.PID, "error", err)
	}
}

// shareOut gives connections to workers of new slots. They get their share once: a worker that is started in their
// place after a crash gets none, or one that crashes again and again would take others' connections with it.
func (m *master) shareOut() {
	shares, to := m.snapshot(monotime.Now()).Shares()
	for _, s := range shares {
		p := m.procs[s.PID]
		m.tellTakersTo(p, s.Takers)
		_ = p.conn.Post(wire.Share{Part: s.Part, Of: s.Of})
	}
	for _, pid := range to {
		m.procs[pid].Grown = false
	}
}
