// Package spawn starts one process from the running executable, and keeps bytes in memory files for it.
package spawn

import (
	"fmt"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Spec is a process to be started.
type Spec struct {
	Argv    []string
	Env     []string
	Control int   // the descriptor that the process finds as 3
	User    *User // if nil, that of this process, with all of its privileges
}

// Start starts the executable that is running, which the file at its path may no longer be, in a process group of its
// own and in this process's directory, which the user need not be allowed to enter. The caller reaps it.
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
		pid, err = confined(*s.User, fork)
	}
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", s.Argv[0], err)
	}
	return pid, nil
}

// Memory makes a memory file of b and returns its raw descriptor. Nobody can change it any more.
func Memory(name string, b []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, fmt.Errorf("memory file %s: %w", name, err)
	}
	for n := 0; n < len(b); {
		m, err := unix.Write(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("memory file %s: %w", name, err)
		}
		n += m
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("memory file %s: seal: %w", name, err)
	}
	return fd, nil
}

// ReadMemory reads all of a memory file.
func ReadMemory(fd int) ([]byte, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	b := make([]byte, st.Size)
	for n := 0; n < len(b); {
		m, err := unix.Pread(fd, b[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("memory file: read %d of %d bytes: %w", n, len(b), err)
		}
		n += m
	}
	return b, nil
}
