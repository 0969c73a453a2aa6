package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"baton/master"
	"baton/master/mastertest"
	"baton/scripts/internal/harness"
)

// do takes the steps of a group, and looks at what has become of everything.
func (w *walk) do(g []step) {
	w.expect(g)
	w.book.turn()
	before, _ := w.status()
	asked := false // for something that has to be in force in the end
	for _, p := range g {
		w.state = w.state.after(p)
		asked = w.apply(p, len(g) == 1) || asked
	}
	w.pauses.Wait()
	if w.gone() {
		w.again()
	}
	if asked {
		w.book.turn()
		w.judge(g, before)
	}
	w.settle()
	w.check()
	w.reopened()
	if asked && len(g) == 1 {
		w.logged(before.Generation)
	}
}

// expect tells the clients whose address the group may take away that it is so.
func (w *walk) expect(g []step) {
	keep := w.promised().targets()
	s := w.state
	for _, p := range g {
		s = s.after(p)
		next := w.guest.without(s.served())
		w.book.begin(next, s.program)
		keep = slices.DeleteFunc(keep, func(t target) bool {
			return !next.serves(t) || p.Do == remove && t.Network == "unix"
		})
		if p.Do == occupy {
			w.book.begin((&guest{as: p.visitor()}).without(next), s.program)
		}
	}
	w.clients.retire(keep)
}

// apply takes one step. It reports whether a reload is due. Only a step that is alone is waited for.
func (w *walk) apply(p step, alone bool) (asked bool) {
	switch p.Do {
	case edit:
		w.save = saver(p.Save)
		w.write(w.state)
		w.save = harness.Save
		w.ask(p.How, alone)
	case spoil:
		w.spoil(p.What)
	case reload:
		w.ask(p.How, alone)
	case program:
		if err := w.install(p.What); err != nil {
			w.findf("walk", "%v", err)
		}
		if foreign(p.What) {
			w.write(w.state)
		}
		w.ask("hup", alone)
	case resize, more, fewer:
		w.resize(p)
		return false
	case kill, pause:
		w.strike(p)
		return p.Who != "worker" && w.force != w.state
	case restart:
		w.restart(p.How)
		return false
	case remove:
		w.remove(p.What)
		return false
	case occupy:
		w.occupy(p.visitor())
		return false
	case release:
		w.leave()
		return false
	case rotate:
		w.rotate()
		return false
	case rest:
		time.Sleep(time.Duration(p.N) * time.Millisecond)
		return false
	}
	return true
}

// ask has what the files say applied. A step that is alone is asked for in judge, by the command.
func (w *walk) ask(how string, alone bool) {
	switch {
	case how == "hup":
		w.signal(syscall.SIGHUP)
	case how == "watch" && w.force.file.get("watch") != 0, alone:
	default:
		w.pauses.Go(func() { w.command(bound, "reload") })
	}
}

func (w *walk) signal(sig syscall.Signal) { _ = syscall.Kill(w.baton.PID(), sig) }

// command runs a command of baton's, and returns its exit code and what it said.
func (w *walk) command(limit time.Duration, args ...string) (code int, out string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit+patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.bin+"/v1", args...)
	cmd.Dir = w.baton.Dir
	text, err := cmd.CombinedOutput()
	out = strings.TrimSpace(string(text))
	if exit := (*exec.ExitError)(nil); ctx.Err() != nil {
		w.findf("command", "baton %s: no end after %v", strings.Join(args, " "), limit+patience)
		return -1, out
	} else if errors.As(err, &exit) {
		return exit.ExitCode(), out
	}
	return 0, out
}

// patience is how long anything may take that should come soon, on a machine that has other work.
const patience = 30 * time.Second

// judge has the files applied, and compares what `baton check` says with what became of it.
func (w *walk) judge(g []step, before master.Status) {
	if w.gone() {
		return
	}
	is, says := w.verdict()
	code, out := w.outcome(g, before, is)
	switch {
	case code == 0 && is != broken:
		w.committed(g)
	case code == 1 && out != "" && is != sound:
		w.refused(g)
	case code < 0: // it has been said already
	default:
		w.findf("check and reload", "check says %q, and the reload ended with %d: %s", says, code, out)
	}
}

// committed: what the files say is in force.
func (w *walk) committed(g []step) {
	w.force = w.state
	if now := w.force.file.get("workers"); now != w.sized {
		w.want, w.sized = now, now
		if slices.ContainsFunc(g, func(p step) bool { return p.Do == resize || p.Do == more || p.Do == fewer }) {
			w.want = -1 // it may have come before the reload, or after it
		}
	}
	w.book.settle(w.promised(), w.force.program)
}

// refused: what was in force still is. Of a group, one of the edits may have been in force for a time; then what was
// before is asked for again.
func (w *walk) refused(g []step) {
	if len(g) > 1 || w.state.program != w.force.program {
		w.back()
		if code, out := w.command(bound, "reload"); code != 0 && !w.guest.meets(w.force.served()) {
			w.findf("way back", "the config that was in force before is refused: %d, %s", code, out)
		}
		st, err := w.status()
		if err == nil {
			w.want, w.sized = st.WorkersWanted, st.WorkersConfig
		}
	}
	w.book.settle(w.promised(), w.force.program)
}

// back has the files say what is in force.
func (w *walk) back() {
	w.state = w.force
	w.write(w.state)
	if err := w.install(w.state.program); err != nil {
		w.findf("walk", "%v", err)
	}
}

// resize changes the number of workers.
func (w *walk) resize(p step) {
	w.pauses.Wait() // of two signals that come while a process is stopped it sees one
	switch p.Do {
	case more:
		w.heard(syscall.SIGTTIN)
		w.want++
	case fewer:
		w.heard(syscall.SIGTTOU)
		w.want = max(1, w.want-1)
	default:
		if code, out := w.command(bound, "resize", fmt.Sprint(p.N)); code != 0 {
			w.findf("resize", "exit code %d: %s", code, out)
		}
		w.want = p.N
	}
}

// heard signals TTIN or TTOU, and leaves time to take it: the kernel makes one of two that wait, and forgets one that
// waits when a SIGCONT comes.
func (w *walk) heard(sig syscall.Signal) {
	w.signal(sig)
	time.Sleep(200 * time.Millisecond)
}

// strike kills or stops a process.
func (w *walk) strike(p step) {
	switch {
	case p.Do == kill && p.Who == "supervisor":
		w.killSupervisor()
	case p.Do == kill && p.Who == "worker":
		if pid := w.pick(p); pid != 0 {
			done := w.book.stir()
			w.kills++
			mastertest.KillHolding(pid, w.book.kills)
			done()
		}
	case p.Do == kill:
		if pid := w.pick(p); pid != 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	default:
		w.pause(p)
	}
}

// pick is the n-th process of a role, of whatever generation.
func (w *walk) pick(p step) int {
	if p.Who == "supervisor" {
		return w.baton.PID()
	}
	pids := slices.DeleteFunc(w.baton.Tree(), func(pid int) bool {
		return !strings.Contains(mastertest.CommandLine(pid), " "+p.Who+" ")
	})
	if len(pids) == 0 {
		return 0
	}
	slices.Sort(pids)
	return pids[p.Nth%len(pids)]
}

// pause stops a process for a time.
func (w *walk) pause(p step) {
	pid := w.pick(p)
	if pid == 0 || !mastertest.Freeze(pid) {
		return
	}
	done := func() {}
	if p.Who == "worker" {
		done = w.book.stir()
		if served, err := mastertest.Served(pid); err == nil {
			w.book.stops(pid, served)
		}
		w.kills++ // it may look hung, or be asked to end
	}
	w.pauses.Go(func() {
		time.Sleep(time.Duration(p.N) * time.Millisecond)
		_ = syscall.Kill(pid, syscall.SIGCONT)
		done()
	})
}

// remove removes a file that baton has made. The next reload brings it back, if it has to be there.
func (w *walk) remove(name string) {
	st, err := w.status()
	if err != nil {
		w.findf("status", "%v", err)
		return
	}
	if !w.guest.has(w.path(name)) {
		_ = os.Remove(w.path(name))
	}
	if is, _ := w.verdict(); is != sound {
		w.back() // a reload that fails brings nothing back
	}
	w.signal(syscall.SIGHUP)
	err = w.until(patience, func() error {
		now, err := w.status()
		if err == nil && now.LastReload.ID <= st.LastReload.ID {
			err = fmt.Errorf("generation %d still", now.Generation)
		}
		return err
	})
	if err != nil {
		w.findf("a removed file", "%s, and HUP: %v", name, err)
	}
}

// until asks until the answer is nil, for as long as there is a baton.
func (w *walk) until(limit time.Duration, ask func() error) error {
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		err := ask()
		if err == nil || time.Now().After(end) || w.gone() {
			return err
		}
	}
}

// gone reports whether the process that was started has ended.
func (w *walk) gone() bool {
	select {
	case <-w.baton.Ended():
		return true
	default:
		return false
	}
}
