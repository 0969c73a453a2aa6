package manual

import (
	"fmt"
	"slices"
	"strings"
)

// Shells are those for which [Program.Completion] writes completions.
var Shells = []string{"bash", "zsh", "fish"}

// Completion returns what a shell has to read to complete the commands and flags of p. The values of [Socket]s are what
// `p completion sockets` prints. It fails for a shell that it does not know.
func (p Program) Completion(shell string) (text string, ok bool) {
	switch shell {
	case "bash":
		return p.bash(), true
	case "zsh": // which has a way to run those of bash
		return "#compdef " + p.Name + "\nautoload -U +X bashcompinit && bashcompinit\n" + p.bash(), true
	case "fish":
		return p.fish(), true
	}
	return "", false
}

const bashText = `_NAME() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=FIRST flags words
	[[ ${COMP_WORDS[1]} == -* || $COMP_CWORD == 1 ]] || command=${COMP_WORDS[1]}
	case $command in
CASES	esac
	COMPREPLY=()
	case $prev in
	SOCKETS)
		COMPREPLY=($(compgen -W "$(NAME completion sockets 2>/dev/null)" -- "$cur"))
		[[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$cur"))
		return ;;
	FILES) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	OTHERS) return ;;
	esac
	[[ $COMP_CWORD == 1 ]] && words="COMMANDS $words"
	[[ $cur == -* ]] && words=$flags
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _NAME NAME
`

func (p Program) bash() string {
	var cases strings.Builder
	for _, c := range p.Commands {
		fmt.Fprintf(&cases, "\t%s) flags=%q words=%q ;;\n", c.Name, strings.Join(c.switches(), " "),
			strings.Join(p.values(c), " "))
	}
	return strings.NewReplacer("NAME", p.Name, "FIRST", p.Commands[0].Name, "CASES", cases.String(),
		"SOCKETS", p.valued(Socket), "FILES", p.valued(File), "OTHERS", p.valued(""),
		"COMMANDS", strings.Join(p.Names(), " ")).Replace(bashText)
}

// fish has a line for each command, flag and value.
func (p Program) fish() string {
	var b strings.Builder
	for _, c := range p.Commands {
		fmt.Fprintf(&b, "complete -c %s -f -n __fish_use_subcommand -a %s -d %q\n", p.Name, c.Name, c.Summary)
		in := "__fish_seen_subcommand_from " + c.Name
		if c.Name == p.Commands[0].Name {
			in = "not __fish_seen_subcommand_from " + strings.Join(p.Names()[1:], " ")
		}
		for _, f := range c.Flags {
			value := ""
			switch {
			case f.Value == Socket:
				value = fmt.Sprintf(" -r -a '(%s completion sockets 2>/dev/null)'", p.Name)
			case f.Value == File:
				value = " -r -F"
			case !f.IsSwitch():
				value = " -x"
			}
			about := strings.NewReplacer("'", `\'`).Replace(f.About)
			fmt.Fprintf(&b, "complete -c %s -n '%s' -l %s%s -d '%s'\n", p.Name, in, f.Name, value, about)
		}
		if values := p.values(c); len(values) > 0 {
			fmt.Fprintf(&b, "complete -c %s -f -n '%s' -a '%s'\n", p.Name, in, strings.Join(values, " "))
		}
	}
	return b.String()
}

// Names returns those of the commands.
func (p Program) Names() (all []string) {
	for _, c := range p.Commands {
		all = append(all, c.Name)
	}
	return all
}

// switches returns the flags of c as one types them.
func (c Command) switches() (all []string) {
	for _, f := range c.Flags {
		name := "--" + f.Name
		if f.IsSwitch() {
			name += f.Value
		}
		all = append(all, name)
	}
	return append(all, "--help", "--version")
}

// values returns the words that may follow c: those of its Args that "|" separates, or the commands.
func (p Program) values(c Command) []string {
	switch {
	case c.Args == "[COMMAND]":
		return p.Names()
	case strings.Contains(c.Args, "|"):
		return strings.Split(c.Args, "|")
	}
	return nil
}

// valued returns the flags with a value of that kind as a pattern; of "", those with any other kind.
func (p Program) valued(kind string) string {
	var all []string
	for _, c := range p.Commands {
		for _, f := range c.Flags {
			other := kind == "" && f.Value != Socket && f.Value != File
			if !f.IsSwitch() && (f.Value == kind || other) && !slices.Contains(all, "--"+f.Name) {
				all = append(all, "--"+f.Name)
			}
		}
	}
	return strings.Join(all, "|")
}
