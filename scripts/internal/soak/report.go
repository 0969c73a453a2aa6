package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"text/tabwriter"

	"baton/master/mastertest"
	"baton/scripts/internal/harness"
)

// state is what a baton at rest has.
type state struct {
	generation, processes             int
	supervisorFDs, masterFDs          int
	supervisorRSS, masterRSS, workers int64 // bytes; of the workers the sum
	cutRequests, cutConnections       int64
	crashes                           int64
}

// measure looks at a baton at rest.
func measure(b *harness.Baton) state {
	st, _ := b.Status()
	files := func(pid int) int {
		fds, _ := mastertest.OpenFDs(pid)
		return len(fds)
	}
	memory := func(pid int) int64 {
		n, _ := mastertest.RSS(pid)
		return n
	}
	m := state{
		generation: st.Generation, processes: 1 + len(b.Tree()), crashes: st.Crashes,
		supervisorFDs: files(st.SupervisorPID), masterFDs: files(st.MasterPID), supervisorRSS: memory(st.SupervisorPID),
		masterRSS:   memory(st.MasterPID),
		cutRequests: st.CutRequests, cutConnections: st.CutConnections,
	}
	for _, w := range st.Workers {
		m.workers += memory(w.PID)
	}
	return m
}

func (m state) String() string {
	return fmt.Sprintf("generation %d, open files %d+%d, memory %.1f+%.1f MB (supervisor+master), %d processes",
		m.generation, m.supervisorFDs, m.masterFDs, mb(m.supervisorRSS), mb(m.masterRSS), m.processes)
}

func mb(n int64) float64 { return float64(n) / (1 << 20) }

func (s *soak) stopLoads() {
	for _, r := range s.loads {
		r.Stop()
	}
}

// end stops baton; nothing may be left.
func (s *soak) end() {
	if err := s.baton.Stop(); err != nil {
		s.oddity("stop: %v", err)
	}
	if _, err := os.Lstat(s.baton.Path("baton.sock")); err == nil {
		s.oddity("left behind: the control socket")
	}
}

// report prints the table, and reports whether all is well.
func (s *soak) report(before, after state) bool {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nEVENT\tTIMES")
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(w, "%s\t%d\n", name, s.counts[name])
	}
	failed := s.reportRequests(w)
	fmt.Fprintln(w, "\nAT REST\tBEFORE\tAFTER")
	for _, l := range []struct {
		what          string
		before, after any
	}{
		{"generation", before.generation, after.generation},
		{"processes", before.processes, after.processes},
		{"open files of the supervisor", before.supervisorFDs, after.supervisorFDs},
		{"open files of the master", before.masterFDs, after.masterFDs},
		{
			"memory of the supervisor, MB", fmt.Sprintf("%.1f", mb(before.supervisorRSS)),
			fmt.Sprintf("%.1f", mb(after.supervisorRSS)),
		},
		{
			"memory of the master, MB", fmt.Sprintf("%.1f", mb(before.masterRSS)),
			fmt.Sprintf("%.1f", mb(after.masterRSS)),
		},
		{"memory of the workers, MB", fmt.Sprintf("%.1f", mb(before.workers)), fmt.Sprintf("%.1f", mb(after.workers))},
		{"requests cut by deadlines", before.cutRequests, after.cutRequests},
		{"workers crashed", before.crashes, after.crashes},
	} {
		fmt.Fprintf(w, "%s\t%v\t%v\n", l.what, l.before, l.after)
	}
	w.Flush()
	for _, text := range s.odd {
		fmt.Println("ODD", text)
	}
	fmt.Printf("\n%d requests failed without an excuse, %d oddities; to see the same events again: -seed %d\n", failed,
		len(s.odd), s.seed)
	return failed == 0 && len(s.odd) == 0
}

// reportRequests prints what the clients met, and returns how many failures have no excuse.
func (s *soak) reportRequests(w *tabwriter.Writer) (failed int64) {
	fmt.Fprintln(w, "\nREQUESTS\tCLASS\tCLIENTS\tSENT\tCONNECTIONS\tFAILED\tHELD BY A KILLED WORKER\t"+
		"OR INSTANCE\tNO SUPERVISOR")
	for _, name := range slices.Sorted(maps.Keys(s.loads)) {
		r := s.loads[name].Wait()
		for _, c := range append(r.Classes, &r.Total) {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, c.Class, c.Clients, c.Requests, c.Connections,
				c.Failed(),
				c.Excused[excuseWorker], c.Excused[excuseInstance], c.Excused[excuseSupervisor])
		}
		failed += r.Failed()
		for _, f := range r.First {
			s.odd = append(s.odd, fmt.Sprintf("%s %s %s: %s", f.Time.Format("15:04:05.000"), name, f.Class, f.Text))
		}
	}
	return failed
}
