package worker

import (
	"os"
)

// RoleEnv is the environment variable by which a process of the tree knows what it is. It is not a security measure:
// it lets the same binary be supervisor, master and worker.
const RoleEnv = "BATON_ROLE"

// The values of RoleEnv.
const (
	RoleSupervisor = "supervisor"
	RoleMaster     = "master"
	RoleWorker     = "worker"
)

// role is read before anybody's main: it is taken out of the environment, so that no program which this one starts
// believes to be part of the tree, and the word that names the role in ps is taken out of os.Args, so that a main
// which parses its flags finds them as they were typed.
var role = takeRole()

func takeRole() string {
	r := os.Getenv(RoleEnv)
	_ = os.Unsetenv(RoleEnv)
	if known := r == RoleSupervisor || r == RoleMaster || r == RoleWorker; known && len(os.Args) > 1 {
		os.Args = append(os.Args[:1:1], os.Args[2:]...)
	}
	return r
}

// Role is "" in the process that the user started, and else what the process was started as. It is something else if the
// user's environment says so.
func Role() string { return role }

// Spawned reports whether this process was started by a master. The worker processes execute the same binary as the
// master: main runs in each of them too. Call this before opening files, starting goroutines or printing.
func Spawned() bool { return role == RoleWorker }
