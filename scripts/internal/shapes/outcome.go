package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"baton/master"
)

// outcome is how the reload ended that the group has asked for. Where several things happened at once one more is
// asked for: the first one may have met any of them.
func (w *walk) outcome(g []step, before master.Status, is verdict) (code int, out string) {
	if w.commanded(g) {
		return w.byCommand(g)
	}
	return w.told(g[0].How, before.LastReload.ID, is)
}

// commanded reports whether `baton reload` is what says how it ended, and not the status.
func (w *walk) commanded(g []step) bool {
	p := g[0]
	watched := w.force.file.get("watch") != 0 && !foreign(w.force.program)
	switch {
	case len(g) > 1:
		return !byHUP(g)
	case p.Do == edit && p.How == "watch":
		return !watched
	case p.Do == edit || p.Do == reload:
		return p.How != "hup"
	default:
		return p.Do != program
	}
}

// byHUP reports whether all that a group asks for is a reload by HUP, and nobody is killed or stopped: then its
// outcome can be told from the status.
func byHUP(g []step) bool {
	return !slices.ContainsFunc(g, func(p step) bool {
		switch p.Do {
		case resize, more, fewer, rotate, rest:
			return false
		default:
			return p.Do != reload || p.How != "hup"
		}
	})
}

// byCommand asks for a reload by the command. One that met the death of a master that we have killed is asked for
// again.
func (w *walk) byCommand(g []step) (code int, out string) {
	args := []string{"reload"}
	if g[0].How == "wait" && w.state.file.drain() < 10*time.Second {
		args = append(args, "--wait")
	}
	killed := slices.ContainsFunc(g, func(p step) bool { return p.Do == kill && p.Who == "master" })
	for range 10 {
		code, out = w.command(bound, args...)
		if !killed || !strings.Contains(out, "died") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return code, out
}

// told waits until the status tells of a later reload, with the end that is expected, if that comes.
func (w *walk) told(how string, before int64, is verdict) (code int, out string) {
	var last master.ReloadStatus
	err := w.until(patience, func() error {
		st, err := w.status()
		if err != nil {
			return err
		}
		last = st.LastReload
		expected := is == unclear || last.OK == (is == sound)
		if last.ID <= before || !expected || st.State == "reloading" {
			return fmt.Errorf("the last reload is %+v, %d before; generation %d, %s", last, before, st.Generation,
				st.State)
		}
		return nil
	})
	switch {
	case err != nil && last.ID <= before:
		w.findf("no reload", "by %s: %v", how, err)
		return -1, ""
	case last.OK:
		return 0, ""
	default:
		return 1, last.Error
	}
}
