package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"baton/master/internal/supervisor/earlysignal"
	"baton/worker"
)

// private are the variables that end with the process that they were meant for.
var private = []string{
	worker.RoleEnv, DoorEnv, DirEnv, AttemptEnv, earlysignal.Env,
	"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE", "MAINPID",
}

// Scrub returns env without what is between the processes of the tree, or between the supervisor and systemd.
func Scrub(env []string) []string {
	out := make([]string, 0, len(env))
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		keep := true
		for _, p := range private {
			keep = keep && name != p
		}
		if keep {
			out = append(out, kv)
		}
	}
	return out
}

func masterEnv(env []string, dir string) []string {
	return append(Scrub(env), worker.RoleEnv+"="+worker.RoleMaster, DoorEnv+"=3", DirEnv+"="+dir)
}

// Executable is the absolute path at which the program was started. Symbolic links stay in it: with
// `current -> releases/42` the next reload is to follow the link to where it points then.
func Executable(argv0 string) (string, error) {
	if !strings.Contains(argv0, "/") {
		p, err := exec.LookPath(argv0)
		if err != nil {
			return os.Executable()
		}
		argv0 = p
	}
	return filepath.Abs(argv0)
}
