package main

import (
	"math/rand/v2"
	"net"
	"os"
)

// portCount is how many ports a walk has: few, so that addresses meet.
const portCount = 4

// generator makes steps. They are a function of the chances and of the state that the steps before have led to, and of
// nothing else.
type generator struct {
	*rand.Rand
	machine
	state    state
	occupied bool
	haste    int // one of so many steps comes together with the next
}

// machine is what a walk may do where it is.
type machine struct {
	root bool // become another user
	six  bool // listen on IPv6
}

// thisMachine is the one that we are on.
func thisMachine() machine {
	m := machine{root: os.Geteuid() == 0}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil {
		m.six = l.Close() == nil
	}
	return m
}

// generate makes the n steps of a seed.
func generate(seed uint64, leg, n int, m machine) (steps []step) {
	g := &generator{
		Rand: rand.New(rand.NewPCG(seed, uint64(leg))), machine: m, state: newState(), haste: []int{5, 3, 2}[leg%3],
	}
	for len(steps) < n {
		p := g.step()
		g.state = g.state.after(p)
		steps = append(steps, p)
		if p.With && g.IntN(2) == 0 {
			steps = append(steps, step{Do: rest, N: g.IntN(pick(g, 5, 30, 100, 400)), With: true})
		}
	}
	return steps[:n]
}

// choice is a kind of step; of two the one with twice the weight is made twice as often.
type choice struct {
	weight int
	make   func(*generator) step
}

func choices() []choice {
	return []choice{
		{34, (*generator).edit},
		{8, (*generator).reload},
		{6, func(g *generator) step { return step{Do: resize, N: 1 + g.IntN(6)} }},
		{4, func(g *generator) step { return step{Do: pick(g, more, fewer)} }},
		{10, (*generator).kill},
		{5, (*generator).pause},
		{7, (*generator).program},
		{5, func(g *generator) step {
			how := pick(g, "term", "command", "quit", "term twice", "term, then command", "command twice", "kill now")
			return step{Do: restart, How: how}
		}},
		{4, func(g *generator) step {
			return step{Do: remove, What: pick(g, "baton.sock", "u0.sock", "u1.sock", "b.pid")}
		}},
		{5, (*generator).occupy},
		{3, func(*generator) step { return step{Do: rotate} }},
		{3, func(g *generator) step { return step{Do: spoil, What: pick(g, "gone", "half", "junk")} }},
		{9, func(g *generator) step { return step{Do: rest, N: g.IntN(pick(g, 10, 100, 1000, 6000))} }},
	}
}

func pick[T any](g *generator, of ...T) T { return of[g.IntN(len(of))] }

// step is the next step. One in five, or in a hasty leg every other one, comes together with the one after it, or a
// moment before.
func (g *generator) step() step {
	sum := 0
	for _, c := range choices() {
		sum += c.weight
	}
	n := g.IntN(sum)
	var p step
	for _, c := range choices() {
		if n -= c.weight; n < 0 {
			p = c.make(g)
			break
		}
	}
	p.With = g.IntN(g.haste) == 0 && p.Do != restart && p.Do != remove && p.Do != spoil
	return p
}

// edit changes one thing, or a few of them. What overlaps is soon put in order again, else most walks would be about
// that.
func (g *generator) edit() step {
	p := step{Do: edit, How: pick(g, "command", "hup", "watch"), Set: map[string]int{}, Put: map[int]*place{}}
	p.Save = pick(g, "", "", "", "", "slow", "link")
	for range pick(g, 1, 1, 1, 2, 3) {
		if g.IntN(3) == 0 {
			g.set(&p)
		} else {
			g.put(&p)
		}
	}
	if odd := g.state.file.overlapping(); len(odd) > 0 && g.IntN(3) > 0 {
		p.Put[odd[g.IntN(len(odd))]] = &place{}
	}
	return p
}

func (g *generator) set(p *step) {
	all := values()
	v := all[g.IntN(len(all))]
	if v.key == "user" && !g.root {
		v = all[0]
	}
	if g.IntN(3) == 0 {
		v = all[0] // the number of workers
	}
	p.Set[v.key] = pick(g, v.values...)
}

// put adds a listener, takes one away, or changes a property of one. One listener stays.
func (g *generator) put(p *step) {
	i := g.IntN(places)
	l := g.state.file.Listen[i]
	switch {
	case l == nil:
		p.Put[i] = &place{g.listener()}
	case g.IntN(4) == 0 && g.state.file.count() > 1:
		p.Put[i] = &place{}
	case g.IntN(4) == 0:
		p.Put[i] = &place{g.listener()}
	default:
		p.Put[i] = &place{g.change(*l)}
	}
}

// listener is a new one, on one of the few ports.
func (g *generator) listener() *listener {
	l := listener{
		Host: pick(g, "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2", "[::1]", "localhost", "0.0.0.0", "[::]", "",
			"unix"),
		Port:      g.IntN(portCount),
		Transport: pick(g, "tcp", "tcp", "tls", "udp"),
		Process:   pick(g, "http", "http", "echo", "websocket-echo"),
		ReusePort: g.IntN(4) == 0, NoHandover: g.IntN(4) == 0,
	}
	return l.here(g.machine).valid()
}

// here makes it one that the machine allows.
func (l listener) here(m machine) listener {
	four := map[string]string{"[::1]": "127.0.0.2", "[::]": "0.0.0.0", "": "0.0.0.0"}
	if host := four[l.Host]; !m.six && host != "" {
		l.Host = host
	}
	return l
}

// change changes one property.
func (g *generator) change(l listener) *listener {
	other := g.listener()
	switch g.IntN(7) {
	case 0:
		l.Host = other.Host
	case 1:
		l.Port = other.Port
	case 2:
		l.Transport = other.Transport
	case 3:
		l.Process = other.Process
	case 4:
		l.ReusePort = !l.ReusePort
	default:
		l.NoHandover = !l.NoHandover
	}
	return l.valid()
}

// valid makes it one that the rules of a single listener allow.
func (l listener) valid() *listener {
	if l.Host == "unix" {
		l.Port %= 2
		if l.Transport == "udp" {
			l.Transport = "tcp"
		}
	}
	if l.Transport == "udp" {
		l.Process = "echo"
	}
	if l.Host == "unix" || l.Transport == "udp" {
		l.ReusePort = false
	}
	return &l
}

func (g *generator) reload() step { return step{Do: reload, How: pick(g, "command", "hup", "wait")} }

func (g *generator) kill() step {
	who := pick(g, "worker", "worker", "worker", "worker", "master", "master", "master", "supervisor")
	return step{Do: kill, Who: who, Nth: g.IntN(8)}
}

func (g *generator) pause() step {
	who := pick(g, "worker", "worker", "worker", "master", "supervisor")
	return step{Do: pause, Who: who, Nth: g.IntN(8), N: 100 + g.IntN(4000)}
}

func (g *generator) program() step {
	names := programs()
	if g.state.program != "v1" && g.IntN(2) == 0 {
		return step{Do: program, What: "v1"}
	}
	return step{Do: program, What: names[g.IntN(len(names))].name}
}

// occupy takes a port, or gives it back.
func (g *generator) occupy() step {
	if g.occupied = !g.occupied; !g.occupied {
		return step{Do: release}
	}
	l := listener{
		Host: pick(g, "127.0.0.1", "0.0.0.0", "127.0.0.2", "[::1]", "[::]", "unix"), Port: g.IntN(portCount),
		Transport: pick(g, "tcp", "tcp", "udp"),
	}.here(g.machine).valid()
	return step{Do: occupy, Host: l.Host, Port: l.Port, What: l.Transport}
}
