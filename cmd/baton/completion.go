package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"baton/cmd/baton/internal/manual"
)

// completion prints what a shell reads to complete command lines; of "sockets", which those ask for, the control
// sockets of the batons that run.
func completion(c *call) error {
	shell := c.argument()
	if shell == "sockets" {
		for _, path := range runningSockets("/proc") {
			c.say("%s", path)
		}
		return nil
	}
	text, ok := book().Completion(shell)
	if !ok {
		return &usageError{
			What: fmt.Sprintf("completion: there is none for %q", shell),
			Hint: "there are " + strings.Join(manual.Shells, ", "),
		}
	}
	c.say("%s", strings.TrimSuffix(text, "\n"))
	return nil
}

// runningSockets returns the Unix sockets on which processes of this program listen and that only their owner may use:
// the control sockets. Of processes that belong to others, only root sees any.
func runningSockets(proc string) (paths []string) {
	table, err := os.ReadFile(filepath.Join(proc, "net/unix"))
	if err != nil {
		return nil
	}
	byLink := map[string]string{}
	for line := range strings.Lines(string(table)) {
		const accepting, flags, inode, path = "00010000", 3, 6, 7
		if f := strings.Fields(line); len(f) > path && f[flags] == accepting && filepath.IsAbs(f[path]) {
			byLink["socket:["+f[inode]+"]"] = f[path]
		}
	}
	self, _ := os.Readlink(filepath.Join(proc, "self/exe"))
	processes, _ := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	for _, dir := range processes {
		exe, err := os.Readlink(dir + "/exe")
		if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != filepath.Base(self) {
			continue
		}
		descriptors, _ := filepath.Glob(dir + "/fd/*")
		for _, fd := range descriptors {
			link, _ := os.Readlink(fd)
			path := byLink[link]
			if info, err := os.Stat(path); err == nil && info.Mode().Perm() == 0o600 {
				paths = append(paths, path)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
