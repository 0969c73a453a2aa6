// Package spawn starts one process from the running executable, and keeps bytes in memory files for it.
package spawn

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"baton/worker/rawfd"
)

// A Spec is a process to be started.
type Spec struct {
	Argv    []string
	Env     []string
	Control int   // the descriptor that the process finds as 3
	User    *User // if nil, that of this process, with all of its privileges
}

// Start starts the running executable, even if another file is at its path by now, in a process group of its own and in
// this process's directory, which the user need not be allowed to enter. The caller reaps it.
func Start(s Spec) (pid int, err error) {
	fork := func(c *syscall.Credential) (int, error) {
		return syscall.ForkExec("/proc/self/exe", s.Argv, &syscall.ProcAttr{
			Env: s.Env, Files: []uintptr{0, 1, 2, uintptr(s.Control)},
			Sys: &syscall.SysProcAttr{Setpgid: true, Credential: c},
		})
	}
	if s.User == nil {
		pid, err = fork(nil)
	} else {
		pid, err = startUnprivileged(*s.User, fork)
	}
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", s.Argv[0], err)
	}
	return pid, nil
}

// Memory makes a memory file of b, which nothing can change any more, and returns its raw descriptor.
func Memory(name string, b []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memory file %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer func() { _ = f.Close() }()
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err = f.Write(b); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	dup := -1
	if err == nil {
		dup, err = rawfd.Dup(fd)
	}
	if err != nil {
		return -1, fmt.Errorf("memory file %s: %w", name, err)
	}
	return dup, nil
}

// ReadMemory reads all of a memory file.
func ReadMemory(fd int) ([]byte, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd)) // opened anew, it is read from its beginning
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	return b, nil
}

// Describe says how a process has exited: "exit status 3", "signal killed".
func Describe(ws unix.WaitStatus) string {
	if ws.Signaled() {
		return "signal " + ws.Signal().String()
	}
	return fmt.Sprintf("exit status %d", ws.ExitStatus())
}
