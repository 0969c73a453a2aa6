package master

import (
	"errors"
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

// onTakes notes what a worker takes.
func (p *proc) onTakes(packet *seqpacket.Packet) error {
	p.stopTaking()
	p.takes.said = true
	if err := packet.Frame.Into(&p.takes.Takes); err != nil || len(packet.FDs) == 0 {
		return err
	}
	p.takes.fd, p.Taker = packet.TakeFD(), true
	return nil
}

func (p *proc) stopTaking() {
	if p.Taker {
		_ = unix.Close(p.takes.fd)
	}
	p.Taker, p.takes = false, takes{}
}

// drainFrom is when workers may be told to drain, see [plan.View].
func (w *pool) drainFrom(gen int) monotime.Time {
	for _, p := range w.procs {
		if p.Generation == gen && p.State != plan.Draining && !p.takes.said {
			return w.takersBy
		}
	}
	return 0
}

// tellTakers tells every worker that drains which workers take its connections, if that is news. Until a restarted
// master knows of one, what its predecessor has said holds.
func (w *pool) tellTakers(v plan.View) (err error) {
	for _, p := range w.procs {
		if p.State != plan.Draining || p.eof {
			continue
		}
		pids := v.Takers(p.Worker)
		if news := fmt.Sprint(pids); news != p.told && (len(pids) > 0 || p.told != "") {
			p.told = news
			err = errors.Join(err, w.tellTakersTo(p, pids))
		}
	}
	return err
}

func (w *pool) tellTakersTo(p *proc, pids []int) error {
	t := wire.Takers{PIDs: pids}
	var fds []int
	for _, pid := range pids {
		q := w.procs[pid]
		i := slices.IndexFunc(t.Sets, func(keys wire.KeySet) bool { return slices.Equal(keys, q.takes.Keys) })
		if i < 0 {
			i = len(t.Sets)
			t.Sets = append(t.Sets, q.takes.Keys)
		}
		t.Of = append(t.Of, i)
		fds = append(fds, q.takes.fd)
	}
	if err := p.conn.Post(t, fds...); err != nil {
		return fmt.Errorf("worker %d (pid %d): takers: %w", p.Slot, p.PID, err)
	}
	return nil
}

// shareOut gives connections to workers of new slots. They get their share once: a worker that is started in their
// place after a crash gets none, or one that crashes again and again would take others' connections with it.
func (w *pool) shareOut(v plan.View) (err error) {
	shares, to := v.Shares()
	for _, s := range shares {
		p := w.procs[s.PID]
		err = errors.Join(err, w.tellTakersTo(p, s.Takers), p.conn.Post(wire.Share{Part: s.Part, Of: s.Of}))
	}
	for _, pid := range to {
		w.procs[pid].Grown = false
	}
	return err
}
