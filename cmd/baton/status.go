package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"baton/master"
	"baton/worker/wire"
)

// status is `baton status`. It passes JSON on as it came, with fields that this program may not know.
func status(c *call) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	var raw []byte
	if err := client.Ask(context.Background(), http.MethodGet, "/status", &raw); err != nil {
		return err
	}
	if c.on("json") {
		var out bytes.Buffer
		if err := json.Indent(&out, bytes.TrimSpace(raw), "", "  "); err != nil {
			return fmt.Errorf("status: %w", err)
		}
		c.say("%s", out.String())
		return nil
	}
	var s master.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	writeStatus(c.out, s, time.Now())
	return nil
}

// writeStatus prints s for a person.
func writeStatus(w io.Writer, s master.Status, now time.Time) {
	head := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(name, text string) { _, _ = fmt.Fprintf(head, "%s\t%s\n", name, text) }
	counter := func(name string, n int64, text string) {
		if n > 0 {
			row(name, text)
		}
	}
	row("generation", fmt.Sprintf("%d, %s", s.Generation, s.State))
	if s.Supervisor != "" && s.Supervisor != s.Version {
		row("version", fmt.Sprintf("%s (supervisor %s)", s.Version, s.Supervisor))
	} else {
		row("version", s.Version)
	}
	row("supervisor", fmt.Sprintf("pid %d, up %s", s.SupervisorPID, age(now.Sub(s.Started))))
	row("master", masterText(s))
	row("workers", workersText(s))
	row("last reload", reloadText(s.LastReload, now))
	for _, l := range s.Listeners {
		row("listens", listenerText(l))
	}
	cut := fmt.Sprintf("%s, %s", count(s.CutRequests, "request"), count(s.CutConnections, "connection"))
	counter("cut", s.CutRequests+s.CutConnections, cut)
	counter("crashes", s.Crashes, fmt.Sprint(s.Crashes))
	counter("hung", s.Hung, count(s.Hung, "worker"))
	counter("recycled", s.Recycled, count(s.Recycled, "worker"))
	for _, text := range s.Warnings {
		row("warning", text)
	}
	for _, p := range s.Workers {
		if p.Held != "" {
			row("warning", fmt.Sprintf("worker %d (pid %d) has no room: %s; connections wait", p.Slot, p.PID, p.Held))
		}
	}
	_ = head.Flush()
	writeExits(w, s)
	_, _ = fmt.Fprintln(w)
	writeWorkers(w, s)
}

// exitIsNews is how long the last lines of an instance that has died are shown. --json has them for longer.
const exitIsNews = time.Hour

// writeExits prints a line for each worker whose program has died, and the last words of the one that was the last.
func writeExits(w io.Writer, s master.Status) {
	var latest *wire.ProgramExit
	for _, p := range s.Workers {
		e := p.ProgramExit
		if e == nil {
			continue
		}
		_, _ = fmt.Fprintf(w, "exit         program %s, slot %d: %s, %s ago (%s)\n", e.Program, p.Slot, e.How,
			age(timeSpan(e.Ago)), count(p.ProgramExits, "exit"))
		if latest == nil || e.Ago < latest.Ago {
			latest = e
		}
	}
	if latest == nil || timeSpan(latest.Ago) > exitIsNews {
		return
	}
	for _, l := range latest.Lines {
		_, _ = fmt.Fprintf(w, "  | %s\n", l)
	}
}

func masterText(s master.Status) string {
	text := fmt.Sprintf("pid %d", s.MasterPID)
	if s.MasterPID == 0 {
		text = "none"
	}
	if s.MasterRestarts > 0 {
		text += fmt.Sprintf(", %s since the start", count(s.MasterRestarts, "restart"))
	}
	return text
}

func workersText(s master.Status) string {
	if s.WorkersWanted != s.WorkersConfig {
		return fmt.Sprintf("%d (config %d)", s.WorkersWanted, s.WorkersConfig)
	}
	return fmt.Sprint(s.WorkersWanted)
}

func reloadText(r master.ReloadStatus, now time.Time) string {
	switch {
	case r.At.IsZero():
		return "none yet"
	case r.OK:
		return fmt.Sprintf("ok, %s ago", age(now.Sub(r.At)))
	default:
		return fmt.Sprintf("failed, %s ago: %s", age(now.Sub(r.At)), r.Error)
	}
}

func listenerText(l master.ListenerStatus) string {
	text := l.Address
	if l.Name != l.Address {
		text = fmt.Sprintf("%s (%s)", l.Address, l.Name)
	}
	if l.Error != "" {
		text += ": failed, and tried again: " + l.Error
	}
	return text
}

// writeWorkers prints a line for each worker, and for each slot whose worker has crashed and is not replaced yet.
func writeWorkers(w io.Writer, s master.Status) {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	column, instance := "", func(master.WorkerStatus) string { return "" }
	if slices.ContainsFunc(s.Workers, func(w master.WorkerStatus) bool { return w.Program != "" }) {
		column, instance = "program\t", instanceText
	}
	_, _ = fmt.Fprintln(table, "generation\tslot\tpid\tstate\tage\trequests\topen\tactive\t"+column)
	for _, c := range s.Crashing {
		if c.Empty {
			_, _ = fmt.Fprintf(table, "%d\t%d\t-\tstarts in %s\t-\t-\t-\t-\t\n", s.Generation, c.Slot,
				age(timeSpan(c.NextStart)))
		}
	}
	for _, p := range s.Workers {
		requests, open, active := fmt.Sprint(p.Requests), fmt.Sprint(p.Connections), fmt.Sprint(p.Active)
		if p.Silent {
			requests, open, active = "?", "?", "?"
		}
		_, _ = fmt.Fprintf(table, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Generation, p.Slot, p.PID, p.State,
			age(timeSpan(p.Age)), requests, open, active, instance(p))
	}
	_ = table.Flush()
}

// instanceText names the instance of a program by its PID.
func instanceText(p master.WorkerStatus) string {
	switch {
	case p.Program == "":
		return "?\t"
	case p.ProgramPID == 0 && p.ProgramExit != nil && p.ProgramExit.NextStart > 0:
		return fmt.Sprintf("%s (starts in %s)\t", p.Program, age(timeSpan(p.ProgramExit.NextStart)))
	case p.ProgramPID == 0:
		return p.Program + " (starting)\t"
	}
	return fmt.Sprintf("%s (pid %d)\t", p.Program, p.ProgramPID)
}

func timeSpan(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// age returns a time span in its two largest units.
func age(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
	}
}
