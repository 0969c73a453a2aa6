package load

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// keepTexts is how many failures are reported with their text.
const keepTexts = 20

// tally is what one client has counted.
type tally struct {
	class       string
	requests    int64
	connections int64
	failures    map[Kind]int64
	excused     map[string]int64
	texts       []Failure
	times       histogram
	generations map[int]int64
	versions    map[string]int64
}

func newTally(class string) *tally {
	return &tally{
		class: class, failures: map[Kind]int64{}, excused: map[string]int64{}, generations: map[int]int64{},
		versions: map[string]int64{},
	}
}

// fail counts a failure, apart if there is an excuse for it.
func (t *tally) fail(err error, f Failure, excuse func(Failure) string) {
	f.Time, f.Class, f.Kind, f.Text = time.Now(), t.class, Other, err.Error()
	if known := (*failure)(nil); errors.As(err, &known) {
		f.Kind = known.kind
	}
	if excuse != nil {
		if why := excuse(f); why != "" {
			t.excused[why]++
			return
		}
	}
	t.failures[f.Kind]++
	if len(t.texts) < keepTexts {
		t.texts = append(t.texts, f)
	}
}

// Failure is one failure in words.
type Failure struct {
	Time  time.Time `json:"time"`
	Class string    `json:"class"`
	Kind  Kind      `json:"kind"`
	// Local and Remote are the ends of the connection, "127.0.0.1:40000"; empty if there was none.
	Local  string `json:"local,omitempty"`
	Remote string `json:"remote,omitempty"`
	// Made is when the connection was begun, and Began when the request was; if it was never sent, the same.
	Made  time.Time `json:"made"`
	Began time.Time `json:"began"`
	Text  string    `json:"text"`
}

// Latency is how long answers took, from the first byte sent to the last received.
type Latency struct {
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
}

// ClassReport is what the clients of one class met.
type ClassReport struct {
	Class       string         `json:"class"`
	Clients     int            `json:"clients"`
	Requests    int64          `json:"requests"`    // begun
	Connections int64          `json:"connections"` // opened
	Failures    map[Kind]int64 `json:"failures"`
	Latency     Latency        `json:"latency"`

	// Excused are the failures for which [Config.Excuse] had an excuse, by what it was. They are not in Failures.
	Excused map[string]int64 `json:"excused,omitempty"`

	times histogram
}

// Failed is the sum of all failures.
func (c *ClassReport) Failed() int64 {
	var n int64
	for _, f := range c.Failures {
		n += f
	}
	return n
}

// Report is what came of a run.
type Report struct {
	Target  string        `json:"target"`
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"elapsed_ns"`

	// Classes are in the order of the config, and Total is all of them.
	Classes []*ClassReport `json:"classes"`
	Total   ClassReport    `json:"total"`

	// Generations and Versions count the answers that named one, as baton's whoami does.
	Generations map[int]int64    `json:"generations,omitempty"`
	Versions    map[string]int64 `json:"versions,omitempty"`

	// First are the first failures in words.
	First []Failure `json:"first_failures,omitempty"`
}

func newReport(r *Runner) *Report {
	rep := &Report{
		Target: r.cfg.Target, Started: r.started, Elapsed: time.Since(r.started),
		Total:       ClassReport{Class: "total", Failures: map[Kind]int64{}, Excused: map[string]int64{}},
		Generations: map[int]int64{}, Versions: map[string]int64{},
	}
	for _, t := range r.tallies {
		rep.class(t.class).add(t)
		rep.Total.add(t)
		merge(rep.Generations, t.generations)
		merge(rep.Versions, t.versions)
		rep.First = append(rep.First, t.texts...)
	}
	for _, c := range append([]*ClassReport{&rep.Total}, rep.Classes...) {
		h := &c.times
		c.Latency = Latency{h.quantile(0.5), h.quantile(0.99), h.quantile(0.999), h.max}
	}
	slices.SortFunc(rep.First, func(a, b Failure) int { return a.Time.Compare(b.Time) })
	rep.First = rep.First[:min(len(rep.First), keepTexts)]
	return rep
}

func (rep *Report) class(name string) *ClassReport {
	for _, c := range rep.Classes {
		if c.Class == name {
			return c
		}
	}
	c := &ClassReport{Class: name, Failures: map[Kind]int64{}, Excused: map[string]int64{}}
	rep.Classes = append(rep.Classes, c)
	return c
}

func (c *ClassReport) add(t *tally) {
	c.Clients++
	c.Requests += t.requests
	c.Connections += t.connections
	merge(c.Failures, t.failures)
	merge(c.Excused, t.excused)
	c.times.merge(&t.times)
}

func merge[K comparable](into, from map[K]int64) {
	for k, n := range from {
		into[k] += n
	}
}

// Failed is the number of failures of all classes.
func (rep *Report) Failed() int64 { return rep.Total.Failed() }

// String is the table for people.
func (rep *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %.1f s, %.0f requests/s\n", rep.Target, rep.Elapsed.Seconds(),
		float64(rep.Total.Requests)/rep.Elapsed.Seconds())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "class\tclients\trequests\tconnections\tfailed\tp50\tp99\tp99.9\tmax\t")
	for _, c := range append(slices.Clone(rep.Classes), &rep.Total) {
		l := c.Latency
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", c.Class, c.Clients, c.Requests, c.Connections,
			c.Failed(), ms(l.P50), ms(l.P99), ms(l.P999), ms(l.Max))
	}
	w.Flush()
	for _, c := range rep.Classes {
		for _, kind := range Kinds() {
			if n := c.Failures[kind]; n > 0 {
				fmt.Fprintf(&b, "FAILED  %s: %d %s\n", c.Class, n, kind)
			}
		}
	}
	for _, why := range slices.Sorted(maps.Keys(rep.Total.Excused)) {
		fmt.Fprintf(&b, "not counted as failed: %d %s\n", rep.Total.Excused[why], why)
	}
	for _, f := range rep.First {
		fmt.Fprintf(&b, "  %s  %s  %s\n", f.Time.Format("15:04:05.000000"), f.Class, f.Text)
	}
	if len(rep.Generations) > 0 {
		fmt.Fprintf(&b, "answers by generation: %s\n", counts(rep.Generations))
	}
	if len(rep.Versions) > 0 {
		fmt.Fprintf(&b, "answers by version: %s\n", counts(rep.Versions))
	}
	return b.String()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) }

func counts[K cmp.Ordered](m map[K]int64) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%v: %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
