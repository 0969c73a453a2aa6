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

// call is one call of a command, with the values of its flags. It words errors as the rest of the program does, and not
// as package flag.
type call struct {
	command
	*ui
	*flag.FlagSet

	control, config string
	overrides       []override // in the order of the command line
	args            []string   // the command line without flags
	program         []string   // what follows "--": somebody else's server

	invalid error // the value that was refused last
}

// override is a flag of run that was given, and wins over a key of the config file.
type override struct {
	flagDef
	value string
}

// newCall returns a call of a command, with its flags.
func newCall(cmd command, u *ui) *call {
	c := &call{command: cmd, ui: u, FlagSet: flag.NewFlagSet(cmd.Name, flag.ContinueOnError)}
	c.SetOutput(io.Discard)
	c.Usage = func() {}
	c.Bool("version", false, "")
	for _, f := range cmd.flags {
		switch {
		case f.IsSwitch() && f.file == nil:
			c.Bool(f.Name, false, "")
		case f.IsSwitch():
			c.BoolFunc(f.Name, "", c.setter(f))
		default:
			c.Func(f.Name, "", c.setter(f))
		}
	}
	return c
}

// on reports whether a switch was given.
func (c *call) on(name string) bool {
	f := c.Lookup(name)
	return f != nil && f.Value.String() == "true"
}

// argument returns the first argument; "" if there is none.
func (c *call) argument() string {
	if len(c.args) == 0 {
		return ""
	}
	return c.args[0]
}

// setter returns what takes a value of f. It keeps the error, of which package flag keeps no more than the text.
func (c *call) setter(f flagDef) func(string) error {
	return func(s string) error {
		var err error
		if f.file != nil {
			c.overrides = append(c.overrides, override{f, s})
			err = f.file(&config.File{}, s) // which tells whether the value is valid
		} else {
			err = f.store(c, s)
		}
		if err != nil {
			c.invalid = &usageError{What: fmt.Sprintf("--%s: %v", f.Name, err), Hint: f.hint}
		}
		return err
	}
}

// parse takes flags before, between and after the arguments.
func (c *call) parse(args []string) error {
	for len(args) > 0 {
		if err := c.Parse(args); err != nil {
			return c.wordError(err)
		}
		rest := c.FlagSet.Args()
		ended := len(rest) < len(args) && args[len(args)-len(rest)-1] == "--"
		if ended && c.Lookup("workers") != nil {
			c.program, rest = rest, nil
			if len(c.program) == 0 {
				return &usageError{What: "the program after -- is missing", Hint: "as baton -- node server.js"}
			}
		}
		if ended || len(rest) == 0 {
			c.args = append(c.args, rest...)
			break
		}
		c.args, args = append(c.args, rest[0]), rest[1:]
	}
	if len(c.args) <= c.maxArgs {
		return nil
	}
	extra := c.args[c.maxArgs]
	err := &usageError{What: fmt.Sprintf("%s: takes no argument %q", c.Name(), extra)}
	if strings.HasSuffix(extra, ".toml") && c.Lookup("config") != nil {
		err.Hint = fmt.Sprintf("did you mean --config %s?", extra)
	}
	return err
}

// wordError turns an error of package flag into a usageError.
func (c *call) wordError(err error) error {
	text := err.Error()
	unknown, isUnknown := strings.CutPrefix(text, "flag provided but not defined: -")
	valueless, isValueless := strings.CutPrefix(text, "flag needs an argument: -")
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case c.invalid != nil:
		return c.invalid
	case isUnknown && len(unknown) == 1:
		return &usageError{What: "there is no flag -" + unknown, Hint: c.suggestForLetter(unknown)}
	case isUnknown:
		return &usageError{What: "there is no flag --" + unknown, Hint: c.suggest(unknown)}
	case isValueless:
		return &usageError{What: fmt.Sprintf("--%s: needs a value", valueless)}
	}
	return &usageError{What: text}
}

func (c *call) suggest(name string) string {
	var known []string
	c.VisitAll(func(f *flag.Flag) { known = append(known, "--"+f.Name) })
	if hint := config.DidYouMean("--"+name, known); hint != "" {
		return hint
	}
	if slices.Contains(book().Names(), name) {
		return fmt.Sprintf("%s is a command: baton %s", name, name)
	}
	return fmt.Sprintf("`baton help %s` lists them", c.Name())
}

// suggestForLetter is suggest for flags of one letter, which other servers have.
func (c *call) suggestForLetter(letter string) string {
	switch letter {
	case "v", "V":
		return "`baton version` shows it"
	case "t", "T":
		return "`baton check` checks the config"
	case "s":
		return "they are commands: baton reload, baton stop"
	}
	long := map[string]string{"c": "config", "p": "port", "w": "workers"}[letter]
	if long != "" && c.Lookup(long) != nil {
		return "did you mean --" + long + "?"
	}
	return fmt.Sprintf("`baton help %s` lists them", c.Name())
}
