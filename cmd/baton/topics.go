package main

import "baton/cmd/baton/internal/manual"

const (
	summaryText = "a server that reloads without losing a request"
	aboutText   = "baton serves, and changes its configuration, its binary and its size without losing a request."
)

// topics returns what concerns more than one command.
func topics() []manual.Section {
	entry := func(text string, terms ...string) manual.Entry { return manual.Entry{Terms: terms, Text: text} }
	return []manual.Section{
		{Title: "every command takes", Entries: []manual.Entry{
			entry("explain the command, as `baton help COMMAND` does", "-h", "--help"),
			entry("print the version", "--version"),
		}},
		{Title: "commands to a baton that runs find its control socket by", Entries: []manual.Entry{
			entry("or", "--control SOCKET"),
			entry("by its key control, or", "--config FILE"),
			entry("in the environment; or it is baton.sock in the working directory", controlEnv),
		}},
		{Title: "signals, to the process that you start", Entries: []manual.Entry{
			entry("reload", "HUP", "USR2"),
			entry("stop: drain up to stop_timeout, then kill; a second one, half a second later or more, kills now",
				"INT", "TERM"),
			entry("stop, but drain up to drain_timeout", "QUIT"),
			entry("one worker more, one less", "TTIN", "TTOU"),
			entry("reopen the log file", "USR1"),
		}},
		{Title: "exit codes", Entries: []manual.Entry{
			entry("done", "0"),
			entry("the reload or the resize failed, and nothing has changed", "1"),
			entry("a mistake in the flags or the config", "100"),
			entry("trouble with the system: a port is taken, a permission is missing, nothing listens on the control "+
				"socket", "111"),
		}},
	}
}
