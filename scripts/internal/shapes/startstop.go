package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"baton/master/mastertest"
)

// restart stops everything, and starts it again.
func (w *walk) restart(how string) {
	if strings.Contains(how, "command") {
		w.pauses.Wait() // it says of a supervisor that is stopped that it is so, and ends
	}
	up := w.book.down()
	defer up()
	w.stop(how)
	w.start()
}

// killSupervisor kills the process that was started: everything else ends by itself.
func (w *walk) killSupervisor() {
	up := w.book.down()
	defer up()
	w.signal(syscall.SIGKILL)
	<-w.baton.Ended()
	w.nobodyLeft(w.force.file.seconds("stop_timeout") + patience)
	w.start()
}

// again: a start after an end that was asked for has been done already; one that nobody has asked for is a finding.
func (w *walk) again() {
	w.findf("end", "exit code %d, and nobody has asked for it", w.baton.Code())
}

// stop ends baton as a user does. Nothing may be left.
func (w *walk) stop(how string) {
	old := w.old()
	limit := w.force.file.seconds("stop_timeout")
	if how == "quit" {
		limit = max(limit, w.force.file.drain())
	}
	w.tell(how, limit)
	select {
	case <-w.baton.Ended():
	case <-time.After(limit + patience):
		w.findf("stop", "still there %v after %s", limit+patience, how)
		return
	}
	w.pauses.Wait()
	if code := w.baton.Code(); code != 0 && !(old && code > 128) {
		w.findf("stop", "exit code %d after %s", code, how)
	}
	within := time.Duration(0)
	if w.baton.Code() != 0 { // the others stop by themselves then
		within = limit + patience
	}
	w.nobodyLeft(within)
	w.nothingLeft()
}

// tell says that baton shall stop. A second stop is no other wish: a wrapper that passes a signal on to somebody who
// has got it already, or another person at the terminal.
func (w *walk) tell(how string, limit time.Duration) {
	command := func() {
		code, out := w.command(limit, "stop")
		// The first of two may be done already.
		late := code == 111 && strings.Contains(out, "nothing listens on") && strings.Contains(how, " ")
		if code != 0 && !late {
			w.findf("stop", "baton stop: exit code %d: %s", code, out)
		}
	}
	switch how {
	case "quit":
		w.signal(syscall.SIGQUIT)
	case "term twice":
		w.signal(syscall.SIGTERM)
		time.Sleep(time.Millisecond)
		w.signal(syscall.SIGTERM)
	case "kill now":
		done := w.book.stir() // of all workers
		defer done()
		w.signal(syscall.SIGTERM)
		time.Sleep(600 * time.Millisecond)
		if !w.gone() {
			w.signal(syscall.SIGTERM)
		}
		<-w.baton.Ended()
	case "term, then command":
		w.signal(syscall.SIGTERM)
		time.Sleep(200 * time.Millisecond)
		if !w.gone() {
			w.pauses.Go(command)
		}
	case "command twice":
		w.pauses.Go(command)
		w.pauses.Go(command)
	case "command":
		w.pauses.Go(command)
	default:
		w.signal(syscall.SIGTERM)
	}
}

// old reports whether the supervisor has still to follow to the binary that serves: a signal that meets it as it does
// so has its own exit code.
func (w *walk) old() bool {
	st, err := w.status()
	if err != nil {
		return false
	}
	supervisor, err1 := os.Stat(fmt.Sprintf("/proc/%d/exe", st.SupervisorPID))
	master, err2 := os.Stat(fmt.Sprintf("/proc/%d/exe", st.MasterPID))
	if err1 != nil || err2 != nil || !os.SameFile(supervisor, master) {
		return true
	}
	_, err = w.status() // one that has just followed answers again when it obeys signals again
	return err != nil
}

func (w *walk) nobodyLeft(within time.Duration) {
	var left []int
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		if left = w.baton.Session(); len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			break
		}
	}
	w.findf("left behind", "processes %v", left)
}

// nothingLeft looks for files and for ports.
func (w *walk) nothingLeft() {
	for _, name := range []string{"baton.sock", "b.pid", "u0.sock", "u1.sock"} {
		if _, err := os.Lstat(w.path(name)); err == nil && !w.guest.has(w.path(name)) {
			w.findf("left behind", "%s", name)
		}
	}
	for port := range w.real {
		for _, host := range hosts() {
			if g := w.guest; g != nil && g.as.network() != "unix" && g.as.Port == port {
				continue
			}
			if err := mastertest.Bindable(host + ":" + w.real[port]); errors.Is(err, syscall.EADDRINUSE) {
				w.findf("left behind", "%v", err)
			}
		}
	}
}

// start starts baton with what the files say: `baton check` says whether that works. If it does not, what was in
// force before is started.
func (w *walk) start() {
	if w.failed() {
		return
	}
	is, says := w.verdict()
	if err := w.launch(); err != nil {
		if is == sound {
			w.findf("check and start", "check says %q, and the start: %v", says, err)
			return
		}
		w.leave()
		w.back()
		if err := w.launch(); err != nil {
			w.findf("check and start", "what was in force before does not start: %v", err)
		}
	} else if is == broken {
		w.findf("check and start", "check says %q, and it starts", says)
	} else {
		w.force = w.state
	}
	w.want, w.sized, w.kills = w.force.file.get("workers"), w.force.file.get("workers"), 0
	w.book.settle(w.promised(), w.force.program)
}

// launch starts the process, and waits until it serves or has ended.
func (w *walk) launch() error {
	if err := w.baton.Launch(); err != nil {
		return err
	}
	return w.until(patience, func() error {
		if w.gone() {
			return fmt.Errorf("exit code %d", w.baton.Code())
		}
		st, err := w.status()
		if err == nil && (st.Generation < 1 || st.State != "serving") {
			err = errors.New(st.State)
		}
		return err
	})
}
