package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"baton/master/mastertest"
	"baton/scripts/internal/harness"
	"baton/scripts/load"
)

// finding is something that must not be.
type finding struct {
	rule string // which rule is broken: what shrinking must find again
	text string
}

func (f *finding) String() string { return f.rule + ": " + f.text }

// walk is one walk, on a baton of its own.
type walk struct {
	bin     string // the programs
	baton   *harness.Baton
	real    ports
	book    *ledger
	clients *clients
	verbose bool
	save    func(path string, content []byte, mode os.FileMode) error // how files are written

	state  state // what the files say
	force  state // what is in force
	want   int   // workers; -1: nobody can know, and the status says it
	sized  int   // what the config in force said when they were last counted by it
	kills  int64 // workers that we have killed or may have made hang, since the start
	pauses sync.WaitGroup
	guest  *guest // holds a port

	mu    sync.Mutex
	first *finding
	soft  []string
	done  int // steps
	sums  sums
}

// newWalk prepares a directory with everything that a walk needs.
func newWalk(bin, dir string, seed uint64) (*walk, error) {
	w := &walk{bin: bin, save: harness.Save, book: newLedger(), state: newState()}
	w.baton = &harness.Baton{Dir: dir, Env: []string{
		"BATON_CONTROL=baton.sock",
		"GORACE=atexit_sleep_ms=0", // else every takeover with the race detector would look stuck
	}}
	for range portCount {
		address, err := mastertest.PickPort()
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		w.real = append(w.real, port)
	}
	trust, err := harness.WriteCertificate(dir)
	if err != nil {
		return nil, err
	}
	w.clients = w.newClients(trust, seed)
	return w, w.install(w.state.program)
}

func (w *walk) newClients(trust *tls.Config, seed uint64) *clients {
	return &clients{
		dir: w.baton.Dir, real: w.real, trust: trust, book: w.book, seed: seed, found: w.find,
		runs: map[target]*load.Runner{},
	}
}

// find notes a finding; the first one counts.
func (w *walk) find(f finding) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		f.text = time.Now().Format("15:04:05.000 ") + f.text
		w.first = &f
	}
}

func (w *walk) findf(rule, format string, args ...any) {
	w.find(finding{rule, fmt.Sprintf(format, args...)})
}

func (w *walk) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.first != nil
}

// run walks, and returns what was found, or nil. Nothing of it is left afterwards.
func (w *walk) run(ctx context.Context, steps []step) *finding {
	defer w.clear()
	w.write(w.state)
	if err := w.baton.Launch(); err != nil {
		w.findf("start", "%v", err)
		return w.first
	}
	w.force, w.want, w.sized = w.state, w.state.file.get("workers"), w.state.file.get("workers")
	w.settle()
	w.check()
	for _, g := range groups(steps) {
		if w.failed() || ctx.Err() != nil {
			break
		}
		w.say(g)
		w.do(g)
		w.done += len(g)
	}
	w.pauses.Wait()
	for _, r := range w.clients.stop() {
		w.tally(r)
	}
	if !w.failed() {
		w.stop("term")
	}
	return w.first
}

func (w *walk) say(g []step) {
	if w.verbose {
		for _, p := range g {
			fmt.Printf("%s %v\n", time.Now().Format("15:04:05.000"), p)
		}
	}
}

// clear ends whatever is left.
func (w *walk) clear() {
	w.pauses.Wait()
	w.clients.stop()
	w.leave()
	w.baton.Kill()
}

// promised is what clients may rely on now: not what somebody else has taken.
func (w *walk) promised() *shape { return w.guest.without(w.force.served()) }

// path is a file of the walk.
func (w *walk) path(name string) string { return w.baton.Path(name) }

// write writes the config files, the one that is watched last.
func (w *walk) write(s state) {
	files := [][2]string{{"walk.json", s.given().settings(w.real)}, {"site.toml", s.file.toml(w.real)}}
	if foreign(w.force.program) {
		files[0], files[1] = files[1], files[0]
	}
	for _, f := range files {
		if err := w.save(w.path(f[0]), []byte(f[1]), 0o644); err != nil {
			w.findf("walk", "%v", err)
		}
	}
}

// install puts a program in the place of the binary.
func (w *walk) install(name string) error {
	next := w.path("baton.new")
	_ = os.Remove(next)
	if err := os.Link(filepath.Join(w.bin, name), next); err != nil {
		return err
	}
	return os.Rename(next, w.path("baton"))
}
