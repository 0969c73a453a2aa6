// Package reexec is how a process goes on in another executable, under the same PID: the executable is tried before,
// by a child that reads the state and says that it has understood it (the dry run), and then executed with the
// descriptors of the state open.
package reexec

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/failpoint"
	"baton/master/internal/spawn"
	"baton/master/internal/supervisor/reexec/earlysignal"
)

// Understood is the last line of a dry run that went well.
const Understood = "baton: the supervisor's state is understood"

// DryRunLimit is how long a dry run may take.
const DryRunLimit = 10 * time.Second

// FileID is a file; zero: none. One that is being executed is not written to, and its inode is not given to another
// file while it is open, so that two executables with the same FileID are the same.
type FileID struct{ Dev, Ino uint64 }

// Stat returns the file at a path.
func Stat(path string) FileID {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return FileID{}
	}
	return FileID{Dev: st.Dev, Ino: st.Ino}
}

// Candidate is the executable that the process should go on in. It is owned by one goroutine.
type Candidate struct {
	Self    FileID    // what the process executes
	Wanted  FileID    // another executable, which has not been refused; zero: none
	Since   time.Time // when it was proposed
	Refused FileID    // not to be tried again
	Checked FileID    // its dry run went well

	dryRun *dryRun // nil: none runs
}

// Propose makes id the candidate, unless it was refused. It reports whether it is what the process executes.
func (c *Candidate) Propose(id FileID, now time.Time) (isSelf bool) {
	if id != c.Refused {
		c.Refused = FileID{}
	}
	switch id {
	case c.Wanted:
	case FileID{}, c.Self, c.Refused:
		c.Wanted = FileID{}
	default:
		c.Wanted, c.Since = id, now
	}
	return id == c.Self
}

// Refuse gives id up, until another one is proposed. It reports whether it was the candidate still.
func (c *Candidate) Refuse(id FileID) (was bool) {
	c.Refused = id
	if was = c.Wanted == id; was {
		c.Wanted = FileID{}
	}
	return was
}

// dryRun is a child that tries to read the state.
type dryRun struct {
	pid  int
	out  int // our end of the pipe that it writes to
	of   FileID
	late bool
}

// Spawn starts a process.
type Spawn func(path string, argv []string, attr *syscall.ProcAttr) (pid int, err error)

// Start starts the dry run of the candidate at path, on a copy of the state. Its end is an event, see Ended.
func (c *Candidate) Start(spawnProcess Spawn, path string, argv, env []string, state []byte) error {
	fd, err := spawn.Memory("state", state)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("pipe: %w", err)
	}
	defer func() { _ = unix.Close(pipe[1]) }()
	// What it prints while it starts, the reason of a panic for one, goes into the pipe as well, which holds 64 KB.
	pid, err := spawnProcess(path, argv, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(env, earlysignal.Env+"=check 3"),
		Files: []uintptr{0, uintptr(pipe[1]), uintptr(pipe[1]), uintptr(fd)},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		_ = unix.Close(pipe[0])
		return fmt.Errorf("dry run: %w", err)
	}
	c.dryRun = &dryRun{pid: pid, out: pipe[0], of: c.Wanted}
	return nil
}

// PID returns that of the dry run; 0: none runs.
func (c *Candidate) PID() int {
	if c.dryRun == nil {
		return 0
	}
	return c.dryRun.pid
}

// Kill ends a dry run that runs. late: it has had its time.
func (c *Candidate) Kill(late bool) {
	if c.dryRun != nil {
		c.dryRun.late = late
		_ = unix.Kill(c.dryRun.pid, unix.SIGKILL)
	}
}

// Ended is called when the dry run was reaped. It returns which executable was tried, and what is wrong with it.
func (c *Candidate) Ended(ws unix.WaitStatus) (FileID, error) {
	d := c.dryRun
	c.dryRun = nil
	buf := make([]byte, 64<<10)
	n, _ := unix.Read(d.out, buf)
	_ = unix.Close(d.out)
	if d.late {
		return d.of, fmt.Errorf("dry run: not done within %v", DryRunLimit)
	}
	err := verdict(ws, string(buf[:max(0, n)]))
	if err == nil {
		c.Checked = d.of
	}
	return d.of, err
}

// verdict returns what is wrong with a dry run, by its end and its output.
func verdict(ws unix.WaitStatus, output string) error {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	last := lines[len(lines)-1]
	if ws.Exited() && ws.ExitStatus() == 0 && last == Understood {
		return nil
	}
	if last == "" {
		last = "not a word"
	}
	return fmt.Errorf("dry run: %s: %s", spawn.Describe(ws), last)
}

// Read reads the state that another executable has left in a descriptor.
func Read(fd int) ([]byte, error) {
	defer func() { _ = unix.Close(fd) }()
	return spawn.ReadMemory(fd)
}

// DryRun is the life of the child. parse says whether it understands the state. It touches no descriptor that is in it.
func DryRun(parse func([]byte) error) (understood bool) {
	b, err := spawn.ReadMemory(earlysignal.State)
	if err == nil {
		err = parse(b)
	}
	failpoint.Hit(failpoint.Checking)
	if err != nil {
		fmt.Println(err)
		return false
	}
	fmt.Println(Understood)
	return true
}

// Exec executes the file that is open as exe: a path may be another file by now. The descriptors of the state stay
// open, and nobody forks meanwhile: a child would keep them. It returns only an error.
func Exec(exe int, argv, env []string, state []byte, fds []int) error {
	fd, err := spawn.Memory("state", state)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	failpoint.Hit(failpoint.Reexecuting)
	return keepOpen(append(fds, fd), func() error {
		env := append(env, fmt.Sprintf("%s=state %d", earlysignal.Env, fd))
		return syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", exe), argv, env)
	})
}

// keepOpen calls exec while the descriptors stay open over it.
func keepOpen(fds []int, exec func() error) error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	err := setCloseOnExec(fds, false)
	if err == nil {
		err = fmt.Errorf("exec: %w", exec())
	}
	return errors.Join(err, setCloseOnExec(fds, true))
}

// Resumed is called with the descriptors of the state by the process that goes on.
func Resumed(fds []int) error {
	err := setCloseOnExec(fds, true)
	failpoint.Hit(failpoint.Reexecuted)
	return err
}

func setCloseOnExec(fds []int, on bool) error {
	flag := 0
	if on {
		flag = unix.FD_CLOEXEC
	}
	for _, fd := range fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flag); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}
