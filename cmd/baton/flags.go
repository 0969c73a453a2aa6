package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"baton/cmd/baton/internal/config"
)

// call is one call of a command, with the values of its flags. It words errors as the rest of the program does, and not
// as package flag.
type call struct {
	command
	*ui
	*flag.FlagSet

	control, config     string
	version, wait, json bool
	overrides           []override // in the order of the command line
	args                []string   // the command line without flags
	program             []string   // what follows "--": somebody else's server

	invalid error // the value that was refused last
}

// override is a flag of run that was given, and wins over a key of the config file.
type override struct {
	overrideFlag
	value string
}

// newCall returns a call of a command, with its flags.
func newCall(cmd command, u *ui) *call {
	c := &call{command: cmd, ui: u, FlagSet: flag.NewFlagSet(cmd.name, flag.ContinueOnError)}
	c.SetOutput(io.Discard)
	c.Usage = func() {}
	for _, name := range strings.Fields(cmd.flags) {
		switch name {
		case "config":
			c.validated(name, config.HintNoFile, func(s string) error {
				if c.config = s; s == "" {
					return errors.New("want the path of a file")
				}
				return nil
			})
		case "version":
			c.BoolVar(&c.version, name, false, "")
		case "wait":
			c.BoolVar(&c.wait, name, false, "")
		case "json":
			c.BoolVar(&c.json, name, false, "")
		default:
			c.addOverride(name)
		}
	}
	return c
}

// addOverride adds one of overrideFlags. The clients' --control is one, too: it names the same socket.
func (c *call) addOverride(name string) {
	i := slices.IndexFunc(overrideFlags, func(f overrideFlag) bool { return f.name == name })
	f := overrideFlags[i]
	set := func(s string) error {
		if name == "control" {
			c.control = s
		}
		c.overrides = append(c.overrides, override{f, s})
		return f.set(&config.File{}, s) // which tells whether the value is valid
	}
	if name == "watch" {
		c.BoolFunc(name, "", c.remember(name, f.hint, set))
		return
	}
	c.validated(name, f.hint, set)
}

// validated adds a flag whose value may be refused; hint says what would be right.
func (c *call) validated(name, hint string, set func(string) error) {
	c.Func(name, "", c.remember(name, hint, set))
}

// remember keeps the error of set, of which package flag keeps no more than the text.
func (c *call) remember(name, hint string, set func(string) error) func(string) error {
	return func(s string) error {
		err := set(s)
		if err != nil {
			c.invalid = &usageError{What: fmt.Sprintf("--%s: %v", name, err), Hint: hint}
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
	err := &usageError{What: fmt.Sprintf("%s: takes no argument %q", c.name, extra)}
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
	if slices.Contains(commandNames(), name) {
		return fmt.Sprintf("%s is a command: baton %s", name, name)
	}
	return fmt.Sprintf("`baton help %s` lists them", c.name)
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
	return fmt.Sprintf("`baton help %s` lists them", c.name)
}

// overrideFlag is a flag that wins over a key of the config file.
type overrideFlag struct {
	name string
	key  string
	hint string // to an invalid value
	set  func(f *config.File, value string) error
}

const autoHint = "auto takes the CPUs that baton may use"

var overrideFlags = []overrideFlag{
	{"host", "listen.0.address", `as 127.0.0.1, ::1, or "" for every address of the machine`, setHost},
	{"port", "listen.0.address", "", setPort},
	{"workers", "workers", autoHint, setWorkers},
	{"worker", "workers", autoHint, setWorkers},
	{"timeout-ms", "http.receive_timeout", "as 2000", setTimeout},
	{"max-header-size", "http.max_header_size", "as 8192", setMaxHeader},
	{"control", "control", "", func(f *config.File, s string) error { f.Control = s; return nil }},
	{"pid-file", "pid_file", "", func(f *config.File, s string) error { f.PIDFile = s; return nil }},
	{"watch", "watch", "", func(f *config.File, s string) (err error) {
		if f.Watch, err = strconv.ParseBool(s); err != nil {
			return fmt.Errorf("%q: want true or false", s)
		}
		return nil
	}},
}
