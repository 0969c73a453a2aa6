package master

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// takes is what a worker has said that it takes from others, and where it is to be sent.
type takes struct {
	wire.Takes
	fd int // meaningful if the worker is a taker
}

// mostTakers is how many workers one that drains gives its connections to. With more of them each has others.
const mostTakers = 32

// takersOf says which workers take the connections of p when it drains, in the order in which they are to have the next
// one. It begins at another slot for each: one connection of each of four workers is one for each of four others. A
// worker that takes the place of p takes all that p has, so that its share is as large as p's was.
func takersOf(p procView, procs []procView, generation, slots int) (pids []int) {
	var all []procView
	for _, q := range procs {
		if !q.taker || q.pid == p.pid || q.gen != generation || q.state != procServing || q.slot >= slots {
			continue
		}
		if q.replaces == p.pid {
			return []int{q.pid}
		}
		all = append(all, q)
	}
	replaced := func(q procView) bool { // it is about to drain itself
		return slices.ContainsFunc(all, func(r procView) bool { return r.replaces == q.pid })
	}
	slices.SortFunc(all, func(a, b procView) int { return cmp.Or(cmp.Compare(a.slot, b.slot), cmp.Compare(a.pid, b.pid)) })
	for i := range all {
		if q := all[(p.slot+i)%len(all)]; !replaced(q) && len(pids) < mostTakers {
			pids = append(pids, q.pid)
		}
	}
	return pids
}

// onTakes notes what a worker takes.
func (m *master) onTakes(p *proc, packet *seqpacket.Packet) {
	m.notTaking(p)
	if packet.Frame.Into(&p.takes.Takes) != nil || len(packet.FDs) == 0 {
		return
	}
	p.takes.fd, p.taker = packet.TakeFD(), true
}

func (m *master) notTaking(p *proc) {
	if p.taker {
		_ = unix.Close(p.takes.fd)
	}
	p.taker, p.takes = false, takes{}
}

// tellTakers says to every worker that drains who takes its connections, if that is news. Until a restarted master
// knows of somebody, what its predecessor has said holds.
func (m *master) tellTakers() {
	if m.stopping {
		return
	}
	views := m.views()
	for _, p := range m.procs {
		if p.state != procDraining || p.eof {
			continue
		}
		pids := takersOf(p.procView, views, m.gen, m.want)
		if news := fmt.Sprint(pids); news != p.told && (len(pids) > 0 || p.told != "") {
			p.told = news
			m.tellTakersTo(p, pids)
		}
	}
}

func (m *master) views() []procView {
	var all []procView
	for _, p := range m.procs {
		all = append(all, p.procView)
	}
	return all
}

func (m *master) tellTakersTo(p *proc, pids []int) {
	t := wire.Takers{PIDs: pids}
	var fds []int
	for _, pid := range pids {
		q := m.procs[pid]
		i := slices.IndexFunc(t.Sets, func(keys []wire.ListenerKey) bool { return slices.Equal(keys, q.takes.Keys) })
		if i < 0 {
			i = len(t.Sets)
			t.Sets = append(t.Sets, q.takes.Keys)
		}
		t.Of = append(t.Of, i)
		fds = append(fds, q.takes.fd)
	}
	if err := p.conn.Post(t, fds...); err != nil {
		m.log.Warn("master: takers", "pid", p.pid, "error", err)
	}
}

// sharesOf says who gives connections to whom when there are more workers than before: once all of them serve, those
// that did so before to the new ones.
func sharesOf(procs []procView, generation, slots int) (from, to []procView) {
	for _, p := range procs {
		switch {
		case p.gen != generation || p.state != procServing || p.slot >= slots:
		case p.grown:
			to = append(to, p)
		default:
			from = append(from, p)
		}
	}
	if len(from)+len(to) < slots || len(to) == 0 {
		return nil, nil
	}
	return from, to
}

// shareOut does it. Those that are new get their share once: a worker that is started in their place after a crash gets
// none, or one that crashes again and again would take others' connections with it.
func (m *master) shareOut() {
	from, to := sharesOf(m.views(), m.gen, m.want)
	for _, p := range from {
		pids := takersOf(p, to, m.gen, m.want)
		if len(pids) == 0 {
			continue
		}
		m.tellTakersTo(m.procs[p.pid], pids)
		_ = m.procs[p.pid].conn.Post(wire.Share{Part: len(to), Of: len(from) + len(to)})
	}
	for _, p := range to {
		m.procs[p.pid].grown = false
	}
}
