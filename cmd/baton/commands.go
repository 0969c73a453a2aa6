package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// A command is one of baton's commands.
type command struct {
	name    string
	flags   string // their names
	maxArgs int    // besides flags
	do      func(*call) error
}

const (
	serverFlags = "config host port workers worker timeout-ms max-header-size control pid-file watch"
	clientFlags = "config control"
)

// commands returns the table of all commands. help.txt describes them.
func commands() []command {
	return []command{
		{"run", serverFlags + " version", 0, serve},
		{"check", serverFlags, 0, check},
		{"reload", clientFlags + " wait", 0, reload},
		{"status", clientFlags + " json", 0, status},
		{"resize", clientFlags, 1, resize},
		{"stop", clientFlags, 0, stop},
		{"version", "", 0, showVersion},
		{"help", "", 1, help},
	}
}

func commandNames() []string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return names
}

// run executes a command line and returns the exit code. Without a command it is `baton run`.
func run(args []string, u *ui) int {
	name := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	i := slices.IndexFunc(commands(), func(c command) bool { return c.name == name })
	if i < 0 {
		return u.fail(noCommand(name))
	}
	c := newCall(commands()[i], u)
	err := c.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.args = []string{name}
		err = help(c)
	case err == nil:
		err = c.do(c)
	}
	return u.fail(err)
}

func noCommand(typed string) error {
	hint := config.DidYouMean(typed, commandNames())
	if strings.HasSuffix(typed, ".toml") {
		hint = "did you mean baton run --config " + typed + "?"
	}
	if hint == "" {
		hint = "`baton help` lists them"
	}
	return &usageError{What: fmt.Sprintf("there is no command %q", typed), Hint: hint}
}

// serve is `baton run`. Supervisor and master run it, too.
func serve(c *call) error {
	if c.version {
		return showVersion(c)
	}
	l, err := newLoader(c)
	if err != nil {
		return err
	}
	opts := master.Options{Load: l.Load, Version: programVersion(), Explain: explain, Reason: reason}
	return exited(master.Run(opts, siteWorker()))
}

// check loads the configuration that run would load, and serves nothing.
func check(c *call) error {
	l, err := newLoader(c)
	if err != nil {
		return err
	}
	f, warnings, err := l.load(c.config)
	if err == nil {
		err = master.CheckHere(listensOf(&f), l.dir)
	}
	if err != nil {
		return err
	}
	for _, w := range warnings {
		c.warn("warning: %s", w)
	}
	if c.config == "" {
		c.say("ok: no config file, %s", summary(&f))
	} else {
		c.say("%s: ok, %s", c.config, summary(&f))
	}
	return nil
}

// summary says what would be served where.
func summary(f *config.File) string {
	var addresses []string
	for _, l := range f.Listen {
		addresses = append(addresses, l.Address)
	}
	what := "the built-in page"
	if n := len(f.Routes); n > 0 {
		what = count(int64(n), "route")
	}
	return what + " on " + strings.Join(addresses, ", ")
}

func showVersion(c *call) error {
	c.say("baton %s", programVersion())
	return nil
}

//go:embed help.txt
var helpText string

// help prints everything, or the paragraphs of help.txt about one command.
func help(c *call) error {
	text := strings.TrimSpace(helpText)
	if len(c.args) > 0 && c.args[0] != "help" {
		about := slices.DeleteFunc(strings.Split(text, "\n\n"),
			func(p string) bool { return !strings.HasPrefix(p, "baton "+c.args[0]) })
		if len(about) == 0 {
			return noCommand(c.args[0])
		}
		text = strings.Join(about, "\n\n")
	}
	c.say("%s", text)
	return nil
}
