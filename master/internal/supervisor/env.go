package supervisor

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"baton/master/internal/supervisor/reexec/earlysignal"
	"baton/master/internal/systemd"
	"baton/worker"
)

// RegistrationEnv names the descriptor on which a master that the supervisor itself started says hello.
const RegistrationEnv = "BATON_REGISTRATION"

// DirEnv is the user's working directory. Masters are started in /, because every successor is started where the first
// master was, and that directory may be gone by then.
const DirEnv = "BATON_DIR"

// private are the variables that end with the process that they were meant for.
var private = append([]string{worker.RoleEnv, RegistrationEnv, DirEnv, AttemptEnv, earlysignal.Env}, systemd.Private...)

// Scrub returns env without what is between the processes of the tree, or between the supervisor and systemd.
func Scrub(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(private, name)
	})
}

func masterEnv(env []string, dir string) []string {
	return append(Scrub(env), worker.RoleEnv+"="+worker.RoleMaster, RegistrationEnv+"=3", DirEnv+"="+dir)
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
