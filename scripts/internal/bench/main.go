// Command bench measures baton beside other servers. Run it by scripts/bench.
//
// Numbers of two sides are from the same run: the sides take turns, each number is the median of its rounds, and every
// side has the same client.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// options are what the command line says.
type options struct {
	bin    string
	rounds int
	span   time.Duration
	rest   time.Duration
	idle   int
	only   string

	nginx, haproxy, caddy string // paths; empty: not installed

	dir string // for whatever files are needed
}

// mode is something to measure. It prints what it has found.
type mode struct {
	name    string
	doc     string
	measure func(options) error
}

func modes() []mode {
	return []mode{
		{"reload", "how long a reload takes, beside nginx", compareReloads},
		{"requests", "requests per second, beside a bare net/http server", compareRequests},
		{"files", "static files, beside net/http's file server", compareFiles},
		{"accept", "the ways to share a port between workers", compareAccepts},
		{"spread", "how evenly workers get connections, beside nginx", compareSpread},
		{"tail", "the slowest answers during reloads, and between them", compareTails},
		{"idle", "many idle connections over a reload, beside nginx", compareIdle},
		{"table", "what reloads cost the clients of nginx, HAProxy, Caddy and baton", compareLosses},
		{"deaths", "what happens when a process of nginx, HAProxy and baton is killed", compareDeaths},
	}
}

func main() {
	o := options{nginx: find("nginx"), haproxy: find("haproxy"), caddy: find("caddy")}
	flag.StringVar(&o.bin, "bin", "", "the `directory` with the binaries baton and bare")
	flag.IntVar(&o.rounds, "rounds", 15, "rounds of each side; where a round is long there are fewer, in proportion")
	flag.DurationVar(&o.span, "span", time.Second,
		"how long a round of requests is; of the mode accept it is half as long")
	flag.DurationVar(&o.rest, "rest", 300*time.Millisecond, "the pause before each reload of the mode reload")
	flag.IntVar(&o.idle, "idle", 8000, "idle connections")
	flag.StringVar(&o.only, "only", "", "the `modes` to measure, as reload,idle; empty: all")
	flag.StringVar(&o.nginx, "nginx", o.nginx, "the `path` of nginx")
	flag.StringVar(&o.haproxy, "haproxy", o.haproxy, "the `path` of HAProxy")
	flag.StringVar(&o.caddy, "caddy", o.caddy, "the `path` of Caddy")
	flag.Usage = usage
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(os.Stderr, "usage: scripts/bench [flags]\n\nModes:\n")
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	for _, m := range modes() {
		fmt.Fprintf(w, "  %s\t%s\n", m.name, m.doc)
	}
	w.Flush()
	fmt.Fprint(os.Stderr, "\nFlags:\n")
	flag.PrintDefaults()
}

// find looks for a program where it is not always in the PATH, too.
func find(name string) string {
	for _, at := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(at); err == nil {
			return path
		}
	}
	return ""
}

func run(o options) error {
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	if o.dir, err = os.MkdirTemp("", "baton-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	stopOnSignal(o.dir)
	for _, m := range chosen {
		fmt.Printf("\n== %s: %s (load average before: %s)\n", m.name, m.doc, loadAverage())
		if err := m.measure(o); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	fmt.Printf("\n%s, %d CPUs, Linux %s, %s; again: %s\n", runtime.Version(), runtime.NumCPU(), kernel(),
		time.Now().Format(time.DateOnly), again())
	return nil
}

func choose(only string) ([]mode, error) {
	if only == "" {
		return modes(), nil
	}
	var chosen []mode
	for name := range strings.SplitSeq(only, ",") {
		at := len(chosen)
		for _, m := range modes() {
			if m.name == name {
				chosen = append(chosen, m)
			}
		}
		if len(chosen) == at {
			return nil, fmt.Errorf("there is no mode %q", name)
		}
	}
	return chosen, nil
}

// stopOnSignal ends the servers, which have no part in our Ctrl-C, and the program.
func stopOnSignal(dir string) {
	came := make(chan os.Signal, 1)
	signal.Notify(came, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-came
		stopAll()
		os.RemoveAll(dir)
		os.Exit(1)
	}()
}

// again is the command line that was given.
func again() string {
	args := []string{"scripts/bench"}
	flag.Visit(func(f *flag.Flag) {
		if f.Name != "bin" {
			args = append(args, "-"+f.Name, f.Value.String())
		}
	})
	return strings.Join(args, " ")
}

func loadAverage() string { return firstWord("/proc/loadavg") }

func kernel() string { return firstWord("/proc/sys/kernel/osrelease") }

func firstWord(path string) string {
	text, err := os.ReadFile(path)
	if err != nil || len(strings.Fields(string(text))) == 0 {
		return "unknown"
	}
	return strings.Fields(string(text))[0]
}

// fewer is how many rounds there are when each is as long as some; never less than three.
func (o options) fewer(some int) int { return max(3, o.rounds/some) }

// write makes a file in the directory for such things.
func (o options) write(name string, content []byte) (path string, err error) {
	path = o.dir + "/" + name
	return path, os.WriteFile(path, content, fs.FileMode(0o600))
}

// skipped says why something was not measured.
func skipped(what, program, debian string) {
	fmt.Printf("SKIPPED: %s; %s is not installed (Debian: apt install %s)\n", what, program, debian)
}
