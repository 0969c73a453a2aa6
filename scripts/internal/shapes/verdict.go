package main

import "fmt"

// verdict is what there is to expect of the files.
type verdict int

const (
	sound   verdict = iota // they start, and reload
	broken                 // they do not
	unclear                // nobody can say: somebody else has a port, or a program of the library is stricter
)

// verdict is what `baton check` says. A program of the library has no such command: it takes a file in which there is
// something for it to serve, unless it has the same mistakes that baton's would have.
func (w *walk) verdict() (is verdict, says string) {
	code, says := w.command(0, "check", "--config", "site.toml")
	if code != 0 && code != 100 {
		w.findf("check", "exit code %d: %s", code, says)
	}
	served := w.state.served()
	switch {
	case foreign(w.state.program) && served.count() == 0:
		return broken, fmt.Sprintf("there is nothing for %s to serve", w.state.program)
	case foreign(w.state.program) && served.count() < w.state.given().count():
		return broken, fmt.Sprintf("there are listeners that %s does not serve", w.state.program)
	case foreign(w.state.program) && code != 0:
		return unclear, says
	case code != 0:
		return broken, says
	case w.guest.meets(served):
		return unclear, says
	default:
		return sound, says
	}
}

// count is the number of listeners.
func (s *shape) count() (n int) {
	for _, l := range s.Listen {
		if l != nil {
			n++
		}
	}
	return n
}
