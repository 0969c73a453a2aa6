package master

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"baton/master/internal/supervisor"
	"baton/master/internal/upgrade"
	"baton/worker"
)

// Exit codes. A worker that could not start is the system's trouble, unless an error says otherwise.
const (
	exitOK     = 0
	exitUser   = 100
	exitSystem = 111
)

// A master is started in /, and lives where the user was before anybody's main runs.
var _ = worker.Role() == worker.RoleMaster && upgrade.Chdir(os.Getenv(supervisor.DirEnv))

// Main serves w on the given addresses, with one worker process for each CPU, and returns the exit code for os.Exit. It
// is a whole program: HUP starts a new generation from the binary as it is then, INT and TERM stop everything.
//
// The processes that it starts execute the same binary: the user's main runs in every one of them, up to the call of
// Main, with the same arguments. Call Main before opening files, starting goroutines or printing.
//
// An address is "host:port", or "unix:/path". Main parses no flags. There is a control socket for `baton status`,
// `baton reload` and the like if the environment variable BATON_CONTROL has a path for it.
func Main(w worker.Worker, listen ...string) int {
	return Run(Options{Load: func(context.Context) (Config, error) {
		cfg := Config{Control: os.Getenv("BATON_CONTROL")}
		for _, address := range listen {
			cfg.Listen = append(cfg.Listen, Listen{Address: address})
		}
		return cfg, nil
	}}, w)
}

// Run is what [Main] is made of, for programs that have a configuration. It serves w in the worker processes, and
// returns the exit code: 0 after a stop, that of the error if the start has failed.
//
// In the process that the user started, Run does not return before no process of the program is left.
func Run(opts Options, w worker.Worker) int {
	if opts.Version == "" {
		opts.Version = buildVersion()
	}
	switch worker.Role() {
	case worker.RoleWorker:
		return worker.Run(w)
	case worker.RoleMaster:
		return runMaster(opts)
	case worker.RoleSupervisor:
		return supervisor.Run(opts.Version)
	}
	err := becomeSupervisor()
	fmt.Fprintln(os.Stderr, opts.explain(err))
	return exitCode(err)
}

// becomeSupervisor executes the program once more, under a name that ps shows. The PID stays.
func becomeSupervisor() error {
	if r := worker.Role(); r != "" {
		return userError(fmt.Sprintf("start: the environment has %s=%s, by which this program knows its own "+
			"processes: unset it", worker.RoleEnv, r))
	}
	if _, err := os.Readlink("/proc/self/exe"); err != nil {
		return fmt.Errorf("start: %w: /proc is to be mounted, it is how this program finds its executable and its "+
			"processes", err)
	}
	path, err := supervisor.Executable(os.Args[0])
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	argv := append([]string{path, worker.RoleSupervisor}, os.Args[1:]...)
	env := append(os.Environ(), worker.RoleEnv+"="+worker.RoleSupervisor)
	supervisor.HoldSignals()
	if err := syscall.Exec("/proc/self/exe", argv, env); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

func (o Options) explain(err error) string {
	if o.Explain != nil {
		return o.Explain(err)
	}
	return filepath.Base(os.Args[0]) + ": " + err.Error()
}

// exitCode is the code that an error asks for.
func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitSystem
}

func buildVersion() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}
