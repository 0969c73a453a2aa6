package main

import (
	_ "embed"
	"strings"
)

//go:embed help.txt
var helpText string

// help prints everything, or what concerns one command: the paragraphs of help.txt that begin with its name.
func help(args []string, u *ui) int {
	fs := newFlagSet("help")
	if err := fs.parse(args, 1); err != nil {
		return u.failFlags(fs, err)
	}
	if len(fs.args) == 0 || fs.args[0] == "help" {
		u.say("%s", strings.TrimSpace(helpText))
		return exitOK
	}
	var found []string
	for _, p := range strings.Split(strings.TrimSpace(helpText), "\n\n") {
		if strings.HasPrefix(p, "baton "+fs.args[0]) {
			found = append(found, p)
		}
	}
	if len(found) == 0 {
		return u.fail(noCommand(fs.args[0]))
	}
	u.say("%s", strings.Join(found, "\n\n"))
	return exitOK
}
