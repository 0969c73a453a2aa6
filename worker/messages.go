package worker

import (
	"baton/worker/seqpacket"
	"baton/worker/wire"
)

// handlers obey the messages of a master.
var handlers = map[string]func(*process, wire.Frame) error{
	wire.Go{}.Kind():           on((*process).onGo),
	wire.Drain{}.Kind():        on((*process).onDrain),
	wire.Takers{}.Kind():       on((*process).onTakers),
	wire.Share{}.Kind():        on((*process).onShare),
	wire.StatsRequest{}.Kind(): on(func(p *process, q wire.StatsRequest) { _ = p.conn.Post(p.stats(q.ID)) }),
	wire.Tickets{}.Kind():      on(func(p *process, t wire.Tickets) { p.env.tickets.set(t.Keys) }),
	wire.AddSocket{}.Kind():    on((*process).onAddSocket),
	wire.RemoveSocket{}.Kind(): on(func(p *process, r wire.RemoveSocket) { p.env.removeSocket(r.Key) }),
	wire.Listening{}.Kind():    on(func(p *process, _ wire.Listening) { p.env.lookAgain() }),
	wire.LogFile{}.Kind():      on((*process).onLogFile),
}

// on decodes a message for its handler.
func on[M wire.Message](do func(*process, M)) func(*process, wire.Frame) error {
	return func(p *process, f wire.Frame) error {
		return wire.On(f, func(m M) { do(p, m) })
	}
}

// handle obeys a message. One of a kind that this release does not know is dropped.
func (p *process) handle(packet seqpacket.Packet) {
	p.packet = packet
	defer p.packet.Close()
	do := handlers[packet.Frame.T]
	if do == nil {
		return
	}
	if err := do(p, packet.Frame); err != nil {
		p.env.Log.Error("worker: message", "kind", packet.Frame.T, "error", err)
	}
}

// onGo comes again from every master that adopts the worker.
func (p *process) onGo(g wire.Go) {
	p.env.pidFile = g.PIDFile
	p.askToRetire()
	p.postTakes()
	if from := p.move(eventGo); from == p.phase {
		return
	}
	close(p.env.granted)
	if p.phase == phaseServing {
		p.env.handover.Start()
	}
}

func (p *process) onDrain(d wire.Drain) {
	p.move(eventDrain)
	p.env.drain(d)
}

func (p *process) onTakers(t wire.Takers) {
	if err := p.env.handover.SetTakers(t, p.packet.TakeFDs()); err != nil {
		p.env.Log.Error("worker: takers", "error", err)
	}
}

func (p *process) onShare(s wire.Share) {
	if !p.env.draining() {
		p.env.share(s)
	}
}

func (p *process) onAddSocket(a wire.AddSocket) {
	if fd := p.packet.TakeFD(); fd >= 0 {
		a.Listener.Additional = true
		p.env.addSocket(a.Listener, fd)
	}
}

func (p *process) onLogFile(wire.LogFile) {
	if fd := p.packet.TakeFD(); fd >= 0 {
		p.sink.SetFD(fd)
	}
}

func (p *process) stats(id int64) wire.Stats {
	c := p.env.Counters
	st := wire.Stats{
		ID: id, State: p.phase.String(), Requests: c.Requests.Load(), Conns: c.Conns.Load(), Active: c.Active.Load(),
		Handed: p.handed(), AcceptPaused: p.env.limiter.pausedBecause(), IdleEvicted: c.Evicted.Load(),
	}
	if instance := p.env.instance.Load(); instance != nil {
		st.Instance = (*instance)()
	}
	st.LogLost, st.LogError = p.sink.Missing()
	return st
}

func (p *process) handed() wire.HandoverCounts {
	c := &p.env.handover.Counts
	return wire.HandoverCounts{
		Given: c.Given.Load(), Kept: c.Kept.Load(), Taken: c.Taken.Load(), Refused: c.Refused.Load(),
	}
}
