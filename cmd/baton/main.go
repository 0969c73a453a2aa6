// Command baton serves a site with a prefork master that reloads, upgrades and resizes without losing a request.
//
// `baton help` shows its commands and flags; internal/config/reference.toml documents the keys of the config file.
//
// Exit codes: 0; 1 if a reload or a resize failed; 100 for a mistake of the user (flag, config); 111 for trouble with
// the system.
package main

import (
	"os"
	"runtime/debug"

	"baton/master"
	"baton/worker"
)

// main runs in every process of the tree. A worker's start pays for nothing that only the command line needs, and the
// supervisor parses no flags: it has to go on as any later release, whatever the flags of that are.
func main() {
	switch worker.Role() {
	case worker.RoleWorker:
		os.Exit(worker.Run(siteWorker()))
	case worker.RoleSupervisor:
		os.Exit(master.Run(master.Options{Version: programVersion()}, siteWorker()))
	}
	os.Exit(run(os.Args[1:], &ui{out: os.Stdout, err: os.Stderr}))
}

// version is set by the linker: -ldflags "-X main.version=v2".
var version = "dev"

// programVersion returns version, or the one that the Go tool recorded when it built the program.
func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if version != "dev" || !ok {
		return version
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "dev-" + s.Value[:12]
		}
	}
	return version
}
