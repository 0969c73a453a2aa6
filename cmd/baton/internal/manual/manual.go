// Package manual writes what people and their shells are told of a program: help, completions and manual pages. All of
// it comes from one [Program], so that none can say what the others do not. It knows nothing of what commands do.
package manual

import (
	"slices"
	"strings"
)

// Program is everything that is told of a program.
type Program struct {
	Name     string
	Summary  string // what it is, in half a sentence
	About    string
	Commands []Command // the first is the one that runs if none is named
	Topics   []Section // what concerns more than one command
}

// Command is what is told of a command.
type Command struct {
	Name     string
	Args     string // what follows the flags: see [Program.values]
	Summary  string // one line
	About    string
	Flags    []Flag
	Examples []Example
	Fails    string // what exit code 1 means; "": the command has no such exit code
}

// Flag is what is told of a flag.
type Flag struct {
	Name  string
	Value string // what the value is called, and so what it is: [File], [Socket]; "": a switch; "=false": one that is on
	About string
}

// Example is a command line, and what it is good for.
type Example struct{ Line, About string }

// Values for which shells know completions. Others are for people to read.
const (
	File   = "FILE"
	Socket = "SOCKET" // a control socket
)

// Section is a part of a text, with a table below it.
type Section struct {
	Title   string
	Text    string // paragraphs, with an empty line between them; `words` are as one types them
	Entries []Entry
}

// Entry explains what its terms have in common.
type Entry struct {
	Terms []string
	Text  string
}

// IsSwitch reports whether f takes no value of its own.
func (f Flag) IsSwitch() bool { return f.Value == "" || f.Value[0] == '=' }

// term returns f as it is typed.
func (f Flag) term() string {
	if f.IsSwitch() {
		return "--" + f.Name + f.Value
	}
	return "--" + f.Name + " " + f.Value
}

// command returns the command of that name.
func (p Program) command(name string) (Command, bool) {
	i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return Command{}, false
	}
	return p.Commands[i], true
}

// usage returns how c is called.
func (p Program) usage(c Command) string {
	parts := []string{p.Name, c.Name}
	if len(c.Flags) > 0 {
		parts = append(parts, "[flags]")
	}
	if c.Args != "" {
		parts = append(parts, c.Args)
	}
	return strings.Join(parts, " ")
}

// sections returns what is told of c after its usage.
func (p Program) sections(c Command) []Section {
	all := []Section{{Text: c.About}}
	if len(c.Flags) > 0 {
		flags := Section{Title: "flags"}
		for _, f := range c.Flags {
			flags.Entries = append(flags.Entries, Entry{[]string{f.term()}, f.About})
		}
		all = append(all, flags)
	}
	if len(c.Examples) > 0 {
		examples := Section{Title: "examples"}
		for _, e := range c.Examples {
			examples.Entries = append(examples.Entries, Entry{[]string{e.Line}, e.About})
		}
		all = append(all, examples)
	}
	if c.Fails != "" {
		all = append(all, Section{Title: "exit code 1", Text: c.Fails})
	}
	return all
}

// overview lists the commands.
func (p Program) overview() Section {
	s := Section{Title: "commands"}
	for _, c := range p.Commands {
		s.Entries = append(s.Entries, Entry{[]string{c.Name}, c.Summary})
	}
	return s
}
