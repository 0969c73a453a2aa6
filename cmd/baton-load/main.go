// Command baton-load puts load on an HTTP server and tells the truth about what failed. It never retries, compares
// every body that it sent, and counts each way to fail apart; see package baton/scripts/load.
//
//	baton-load -c new=4,reader=16,writer=16 -d 30s 127.0.0.1:8080
//
// Reload, restart or upgrade the server meanwhile: any server, not only baton. The classes that POST want a path where
// the body comes back (-echo-path); leave them out if there is none.
//
// Exit codes: 0, nothing failed; 1, something failed; 100, wrong arguments.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"baton/scripts/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, asJSON, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "baton-load:", err)
		return 100
	}
	report := load.Run(ctx, cfg)
	if asJSON {
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(report)
	} else {
		_, err = io.WriteString(stdout, report.String())
	}
	if err != nil {
		fmt.Fprintln(stderr, "baton-load:", err)
	}
	if err != nil || report.Failed() > 0 {
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (cfg load.Config, asJSON bool, err error) {
	flags := flag.NewFlagSet("baton-load", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { usage(flags) }
	classes := flags.String("c", "new=4,reader=16,writer=16", "the clients, as `class=number,…`")
	pause := flags.String("pause", "0-20ms", "what a client waits between two requests, at random in `least-most`")
	large := flags.String("large", "", "the `file` that -large-path answers, to compare it")
	flags.DurationVar(&cfg.Duration, "d", 10*time.Second, "how long; 0: until Ctrl-C")
	flags.DurationVar(&cfg.Timeout, "timeout", 30*time.Second,
		"for connecting and for each wait for the server; silence beyond it is a failure of kind hang")
	flags.DurationVar(&cfg.MaxIdle, "max-idle", 20*time.Second,
		"how long clients of class aged leave their connection idle; below the server's idle timeout")
	flags.BoolVar(&cfg.Look, "look", false,
		"look before each request whether the server has closed the connection, and open another one then")
	flags.StringVar(&cfg.Path, "path", "/", "what is read")
	flags.StringVar(&cfg.EchoPath, "echo-path", "/echo", "where the body of a POST comes back")
	flags.StringVar(&cfg.LargePath, "large-path", "", "what is downloaded slowly (default: -path)")
	flags.StringVar(&cfg.Host, "host", "", "the Host header (default: the address)")
	flags.Uint64Var(&cfg.Seed, "seed", 0, "for the same chances again; 0: others each time")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return cfg, false, err
	}
	if flags.NArg() != 1 {
		return cfg, false, errors.New("want one address: host:port, http://host:port or unix:/path")
	}
	cfg.Target = strings.TrimSuffix(strings.TrimPrefix(flags.Arg(0), "http://"), "/")
	if cfg.Classes, err = load.ParseClasses(*classes); err != nil {
		return cfg, false, err
	}
	if cfg.MinPause, cfg.MaxPause, err = parseRange(*pause); err != nil {
		return cfg, false, err
	}
	if *large != "" {
		cfg.Large, err = os.ReadFile(*large)
	}
	return cfg, asJSON, err
}

// parseRange reads "10ms-2s", "0-20ms" and "5ms".
func parseRange(text string) (least, most time.Duration, err error) {
	first, second, found := strings.Cut(text, "-")
	if !found {
		second = first
	}
	if least, err = time.ParseDuration(first); err == nil {
		most, err = time.ParseDuration(second)
	}
	if err != nil || least < 0 || most < least {
		return 0, 0, fmt.Errorf("not a range of time: %q", text)
	}
	if most == 0 {
		most = -1 // no pause at all
	}
	return least, most, nil
}

func usage(flags *flag.FlagSet) {
	w := flags.Output()
	fmt.Fprint(w,
		"usage: baton-load [flags] address\n\nThe address is host:port, http://host:port or unix:/path.\n\nClasses:\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range append(load.Classes(), load.Protocols()...) {
		fmt.Fprintf(tw, "  %s\t%s\n", c.Name, c.Doc)
	}
	tw.Flush()
	fmt.Fprint(w, "\nFlags:\n")
	flags.PrintDefaults()
}
