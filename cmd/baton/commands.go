package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"baton/cmd/baton/internal/config"
	"baton/cmd/baton/internal/manual"
)

// A command is one of baton's commands.
type command struct {
	manual.Command // what is told of it, but for its flags
	flags          []flagDef
	maxArgs        int // besides flags
	do             func(*call) error
}

// commands returns the table of all commands. Help, completions and manual pages are written from it.
func commands() []command { return slices.Concat(serverCommands(), clientCommands(), otherCommands()) }

// serverCommands are those that read a configuration as run does.
func serverCommands() []command {
	return []command{
		{manual.Command{
			Name: "run", Args: "[-- COMMAND ARG...]", Summary: "serve",
			About: "Serves what the config file says, or a built-in page without one. A flag wins over the file, the file " +
				"over the default.\n\n" +
				"After -- it is the command line of a server in any language: each worker runs an instance of it, which " +
				"listens on 127.0.0.1 and the port in PORT, or where {socket} or {port} in its arguments say.",
			Examples: []manual.Example{
				{Line: "baton run --config site.toml", About: "serve what site.toml says"},
				{Line: "baton --port 8080 --workers 4 -- node server.js", About: "serve what four instances of it answer"},
			},
		}, serverFlags, 0, serve},
		{manual.Command{
			Name: "check", Summary: "check the config and the flags of run, and serve nothing",
			About: "Reads what `baton run` would read with the same flags, and says what would be served where; or where it " +
				"is wrong, why, and what was probably meant.",
			Examples: []manual.Example{{Line: "baton check --config site.toml", About: "before a reload"}},
		}, serverFlags, 0, check},
	}
}

// clientCommands are those that talk to a baton that runs.
func clientCommands() []command {
	return []command{
		{manual.Command{
			Name: "reload", Summary: "start a new generation, and return when it serves",
			About: "Starts new workers with the config and the binary as they are on disk now, and returns when they serve. " +
				"If they do not come up, the generation before serves on, and the command says why.",
			Examples: []manual.Example{
				{Line: "baton reload", About: "after a change"},
				{Line: "baton reload --wait && rm -r old", About: "what only the old generation needs may go"},
			},
			Fails: "The reload failed, and nothing has changed.",
		}, slices.Concat(clientFlags, waitFlags), 0, reload},
		{manual.Command{
			Name: "status", Summary: "show the processes, and how the last reload ended",
			Examples: []manual.Example{
				{Line: "baton status --json | jq .generation", About: "for programs"},
			},
		}, slices.Concat(clientFlags, jsonFlags), 0, status},
		{manual.Command{
			Name: "resize", Args: "N", Summary: "run N workers",
			About:    "Starts or ends workers until there are N, which holds until `workers` in the config file changes.",
			Examples: []manual.Example{{Line: "baton resize 4", About: "without losing a request"}},
			Fails:    "The resize failed, and nothing has changed.",
		}, clientFlags, 1, resize},
		{manual.Command{
			Name: "stop", Summary: "stop everything, and return when it is gone",
			About: "Drains for up to `stop_timeout`, as INT and TERM do.",
		}, clientFlags, 0, stop},
	}
}

func otherCommands() []command {
	return []command{
		{manual.Command{
			Name: "init", Args: "[FILE]", Summary: "write a config file that explains every key",
			About: "Writes baton.toml, or FILE, in which every key has its default. A file that is there is not overwritten.",
		}, nil, 1, initFile},
		{manual.Command{
			Name: "completion", Args: "bash|zsh|fish", Summary: "print completions for a shell",
			Examples: []manual.Example{
				{Line: "baton completion bash > baton", About: "for ~/.local/share/bash-completion/completions"},
			},
		}, nil, 1, completion},
		{manual.Command{Name: "version", Summary: "print the version"}, nil, 0, showVersion},
		{manual.Command{Name: "help", Args: "[COMMAND]", Summary: "explain a command"}, nil, 1, help},
	}
}

// book returns everything that is told of baton.
func book() manual.Program {
	p := manual.Program{Name: "baton", Summary: summaryText, About: aboutText, Topics: topics()}
	for _, c := range commands() {
		for _, f := range c.flags {
			c.Flags = append(c.Flags, f.Flag)
		}
		p.Commands = append(p.Commands, c.Command)
	}
	return p
}

// run executes a command line and returns the exit code. Without a command it is `baton run`.
func run(args []string, u *ui) int {
	name, named := "run", false
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, named, args = args[0], true, args[1:]
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.Name == name })
	if i < 0 {
		return u.fail(noCommand(name))
	}
	c := newCall(all[i], u)
	err := c.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp) && named:
		err = explainCommand(u, name)
	case errors.Is(err, flag.ErrHelp):
		err = explainCommand(u, "")
	case err == nil && c.on("version"):
		err = showVersion(c)
	case err == nil:
		err = c.do(c)
	}
	return u.fail(err)
}

func noCommand(typed string) error {
	hint := config.DidYouMean(typed, book().Names())
	if strings.HasSuffix(typed, ".toml") {
		hint = "did you mean baton run --config " + typed + "?"
	}
	if hint == "" {
		hint = "`baton help` lists them"
	}
	return &usageError{What: fmt.Sprintf("there is no command %q", typed), Hint: hint}
}

func showVersion(c *call) error {
	c.say("baton %s", programVersion())
	return nil
}

func help(c *call) error { return explainCommand(c.ui, c.argument()) }

// explainCommand prints the help of one command, or of "" all of baton's.
func explainCommand(u *ui, name string) error {
	text, ok := book().Help(name)
	if !ok {
		return noCommand(name)
	}
	u.say("%s", text)
	return nil
}
