// Command baton serves a site with a prefork master that reloads, upgrades and resizes without losing a request.
//
// `baton help` tells its commands and flags; the keys of the config file are documented in the type config.File.
//
// Exit codes: 0; 1 if a reload or a resize failed; 100 for a mistake of the user (flag, config); 111 for trouble of the system.
package main

import (
	"os"

	"baton/master"
	"baton/worker"
)

// main runs in every process of the tree. A worker's start pays for nothing that only the command line needs, and a
// supervisor reads no flags: it has to go on as any later release, whatever that thinks of them.
func main() {
	switch worker.Role() {
	case worker.RoleWorker:
		os.Exit(worker.Run(siteWorker()))
	case worker.RoleSupervisor:
		os.Exit(master.Run(master.Options{Version: programVersion()}, siteWorker()))
	}
	os.Exit(run(os.Args[1:], &ui{out: os.Stdout, err: os.Stderr}))
}
