package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// A command does one thing and returns the exit code.
type command struct {
	name string
	do   func(args []string, u *ui) int
}

func commands() []command {
	return []command{
		{"run", serve},
		{"check", check},
		{"reload", reload},
		{"status", status},
		{"resize", resize},
		{"stop", stop},
		{"version", showVersion},
		{"help", help},
	}
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

// run finds the command; without one it is run.
func run(args []string, u *ui) int {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return serve(args, u)
	}
	i := slices.IndexFunc(commands(), func(c command) bool { return c.name == args[0] })
	if i < 0 {
		return u.fail(noCommand(args[0]))
	}
	return commands()[i].do(args[1:], u)
}

func noCommand(typed string) error {
	hint := config.DidYouMean(typed, commandNames())
	if strings.HasSuffix(typed, ".toml") {
		hint = "did you mean baton run --config " + typed + "?"
	}
	if hint == "" {
		hint = "`baton help` lists them"
	}
	return &mistake{What: fmt.Sprintf("there is no command %q", typed), Hint: hint}
}

// serve is `baton run`. It is what supervisor and master do, too.
func serve(args []string, u *ui) int {
	r := newRunFlags("run")
	var showVer bool
	r.BoolVar(&showVer, "version", false, "")
	if err := r.parse(args, 0); err != nil {
		return u.failFlags(r.flagSet, err)
	}
	if showVer {
		return showVersion(nil, u)
	}
	l, err := newLoader(r)
	if err != nil {
		return u.fail(err)
	}
	opts := master.Options{Load: l.Load, Version: programVersion(), Explain: explain, Reason: reason}
	return master.Run(opts, siteWorker())
}

// check loads what run would load, and serves nothing.
func check(args []string, u *ui) int {
	r := newRunFlags("check")
	if err := r.parse(args, 0); err != nil {
		return u.failFlags(r.flagSet, err)
	}
	l, err := newLoader(r)
	if err != nil {
		return u.fail(err)
	}
	f, warnings, err := l.load(r.config)
	if err == nil {
		err = master.CheckHere(listensOf(&f), l.dir)
	}
	if err != nil {
		return u.fail(err)
	}
	for _, w := range warnings {
		u.warn("warning: %s", w)
	}
	if r.config == "" {
		u.say("ok: no config file, %s", summary(&f))
	} else {
		u.say("%s: ok, %s", r.config, summary(&f))
	}
	return exitOK
}

// summary is what would be served where.
func summary(f *config.File) string {
	var where []string
	for _, l := range f.Listen {
		where = append(where, l.Address)
	}
	what := "the built-in page"
	switch n := len(f.Routes); {
	case n == 1:
		what = "one route"
	case n > 1:
		what = fmt.Sprintf("%d routes", n)
	}
	return what + " on " + strings.Join(where, ", ")
}

// failFlags is fail for an error of flagSet.parse: asking for help is none.
func (u *ui) failFlags(fs *flagSet, err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return help([]string{fs.Name()}, u)
	}
	return u.fail(err)
}

func showVersion(args []string, u *ui) int {
	fs := newFlagSet("version")
	if err := fs.parse(args, 0); err != nil {
		return u.failFlags(fs, err)
	}
	u.say("baton %s", programVersion())
	return exitOK
}
