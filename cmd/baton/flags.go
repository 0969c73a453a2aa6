package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"baton/cmd/baton/internal/config"
)

// flagSet is the flags of one command, and what was typed for them. It speaks our words instead of package flag's.
type flagSet struct {
	*flag.FlagSet
	wrong *mistake // of the last value that was refused
	args  []string // what is left when the flags are taken out
}

func newFlagSet(command string) *flagSet {
	fs := &flagSet{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError)}
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// refusable adds a flag whose value may be refused; hint says what would be right.
func (fs *flagSet) refusable(name, hint string, set func(string) error) {
	fs.Func(name, "", func(s string) error { return fs.note(name, hint, set(s)) })
}

// note remembers err in our words: package flag keeps no more than its text.
func (fs *flagSet) note(name, hint string, err error) error {
	if err != nil {
		fs.wrong = &mistake{What: fmt.Sprintf("--%s: %v", name, err), Hint: hint}
	}
	return err
}

// parse takes flags before, between and after the arguments, of which there are at most most.
func (fs *flagSet) parse(args []string, most int) error {
	for {
		if err := fs.Parse(args); err != nil {
			return fs.explain(err)
		}
		rest := fs.Args()
		ended := len(rest) < len(args) && args[len(args)-len(rest)-1] == "--"
		if len(rest) == 0 || ended {
			fs.args = append(fs.args, rest...)
			break
		}
		fs.args, args = append(fs.args, rest[0]), rest[1:]
	}
	if len(fs.args) > most {
		return fs.surplus(fs.args[most])
	}
	return nil
}

func (fs *flagSet) surplus(arg string) error {
	m := &mistake{What: fmt.Sprintf("%s: takes no argument %q", fs.Name(), arg)}
	if strings.HasSuffix(arg, ".toml") && fs.Lookup("config") != nil {
		m.Hint = fmt.Sprintf("did you mean --config %s?", arg)
	}
	return m
}

// explain turns an error of package flag into a mistake.
func (fs *flagSet) explain(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if fs.wrong != nil {
		return fs.wrong
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		if len(name) == 1 {
			return &mistake{What: "there is no flag -" + name, Hint: fs.meantLetter(name)}
		}
		return &mistake{What: "there is no flag --" + name, Hint: fs.meant(name)}
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return &mistake{What: fmt.Sprintf("--%s: needs a value", name)}
	}
	return &mistake{What: text}
}

func (fs *flagSet) meant(name string) string {
	var known []string
	fs.VisitAll(func(f *flag.Flag) { known = append(known, "--"+f.Name) })
	if hint := config.DidYouMean("--"+name, known); hint != "" {
		return hint
	}
	if slices.Contains(commandNames(), name) {
		return fmt.Sprintf("%s is a command: baton %s", name, name)
	}
	return fs.listed()
}

func (fs *flagSet) listed() string { return fmt.Sprintf("`baton help %s` lists them", fs.Name()) }

// meantLetter is meant for what other servers have as one letter.
func (fs *flagSet) meantLetter(letter string) string {
	switch letter {
	case "v", "V":
		return "`baton version` tells it"
	case "t", "T":
		return "`baton check` tells whether a config is right"
	case "s":
		return "they are commands: baton reload, baton stop"
	}
	long := map[string]string{"c": "config", "p": "port", "w": "workers"}[letter]
	if long != "" && fs.Lookup(long) != nil {
		return "did you mean --" + long + "?"
	}
	return fs.listed()
}
