package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"baton/master/internal/spawn"
	"baton/master/internal/step"
	"baton/master/internal/supervisor/earlysignal"
	"baton/worker"
)

// The supervisor follows: when the executable of the last COMMIT is another file than its own, it executes that one, under the
// same PID. A child of that binary has read the supervisor's state before, and said so (the dry run).
//
// It is done at rest only, when nobody waits for an answer on the control socket, and not before followQuiet has passed
// since COMMIT: several upgrades in a row are followed once, and who upgrades and then stops at once meets no supervisor that
// is about to change.
const (
	followQuiet = 500 * time.Millisecond
	followAgain = time.Second // after a master did not read what was posted to it
	dryRunLimit = 10 * time.Second
	lastLines   = 50 * time.Millisecond // for the log, before the execve
)

// stateRead is the last line of a dry run that went well.
const stateRead = "baton: the supervisor's state is understood"

// fileID is a file. One that is being executed is not written to, and its inode is not given to another while it is open,
// so that two executables with the same fileID are the same.
type fileID struct{ dev, ino uint64 }

// follow is how far the supervisor has come in following. Its zero value: there is nothing to follow.
type follow struct {
	self    fileID // what we execute
	want    fileID // the executable of the last COMMIT if that is another one, and has not been refused
	since   time.Time
	refused fileID // not to be tried again
	pid     int    // of the dry run; 0: there is none
	trying  fileID // what it executes
	out     int    // what it says, our end of a pipe
	late    bool   // it was killed for that
	checked fileID // its dry run went well
}

func statFile(path string) fileID {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileID{}
	}
	return fileID{dev: st.Dev, ino: st.Ino}
}

// exePath names the executable of the last COMMIT for a child, whose own descriptors are other ones.
func (sv *supervisor) exePath() string {
	e, ok := sv.registry[EntryExe]
	if !ok || e.fd < 0 {
		return "/proc/self/exe"
	}
	return fmt.Sprintf("/proc/%d/fd/%d", sv.pid, e.fd)
}

// noteExe is called after COMMIT.
func (sv *supervisor) noteExe() {
	f := &sv.follow
	id := statFile(sv.exePath())
	if id != f.refused {
		f.refused = fileID{}
	}
	switch id {
	case f.want:
	case f.self:
		f.want = fileID{}
		sv.setProblem(problemFollow, "")
	case fileID{}, f.refused:
		f.want = fileID{}
	default:
		f.want, f.since = id, time.Now()
	}
}

// atRest reports whether nothing is going on but that workers serve, or drain.
func (sv *supervisor) atRest() bool {
	return sv.attempt == nil && sv.old == nil && sv.count == sv.served && sv.starting == nil && sv.live == 1 && !sv.stopping &&
		len(sv.dead) == 0 && len(sv.leaving) == 0 && len(sv.resizes) == 0 && !sv.reopen && !sv.doorBroken &&
		sv.current != nil && sv.current.phase == phaseCurrent && sv.current.serving && sv.current.reopens == 0 && sv.current.end == ""
}

// tryFollow is called after every event.
func (sv *supervisor) tryFollow(now time.Time) {
	f := &sv.follow
	if f.want == (fileID{}) || f.pid != 0 || !sv.atRest() {
		return
	}
	if wait := f.since.Add(followQuiet).Sub(now); wait > 0 {
		sv.dl.follow = now.Add(wait)
		return
	}
	sv.dl.follow = time.Time{}
	switch {
	case f.want != f.checked:
		if err := sv.startDryRun(now); err != nil {
			sv.refuse(f.want, err)
		}
	case !sv.current.conn.Idle() || !sv.systemd.idle() || len(sv.questions) > 0:
		sv.dl.follow = now.Add(followAgain)
	default:
		sv.becomeOther()
	}
}

// refuse gives a binary up, until the COMMIT of another one.
func (sv *supervisor) refuse(id fileID, err error) {
	sv.log.Error("supervisor: cannot follow to the new binary, staying as it is", "version", sv.opts.Version, "error", err)
	sv.follow.refused = id
	if sv.follow.want == id {
		sv.follow.want = fileID{}
		sv.setProblem(problemFollow, fmt.Sprintf("the supervisor stays at version %s: %s", sv.opts.Version, shorten(err.Error())))
	}
}

// startDryRun starts a child of the new binary on a copy of the state. Its end is an event, see dryRunEnded.
func (sv *supervisor) startDryRun(now time.Time) error {
	st, err := sv.snapshot()
	if err != nil {
		return err
	}
	fd, err := st.memory()
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
	pid, err := spawnFrom(sv.exePath(), sv.supervisorArgs(), &syscall.ProcAttr{
		Dir:   "/",
		Env:   followEnv(os.Environ(), "check 3"),
		Files: []uintptr{0, uintptr(pipe[1]), uintptr(pipe[1]), uintptr(fd)},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		_ = unix.Close(pipe[0])
		return fmt.Errorf("dry run: %w", err)
	}
	sv.follow.pid, sv.follow.out, sv.follow.trying, sv.follow.late = pid, pipe[0], sv.follow.want, false
	sv.dl.follow = now.Add(dryRunLimit)
	return nil
}

// supervisorArgs are the arguments of a process in the role of the supervisor.
func (sv *supervisor) supervisorArgs() []string {
	return append([]string{sv.args[0], worker.RoleSupervisor}, sv.args[1:]...)
}

func followEnv(env []string, order string) []string {
	return append(Scrub(env), worker.RoleEnv+"="+worker.RoleSupervisor, earlysignal.Env+"="+order)
}

// onFollowTime: the dry run has had its time, or it is time to look again.
func (sv *supervisor) onFollowTime() {
	if sv.follow.pid != 0 {
		sv.follow.late = true
		_ = unix.Kill(sv.follow.pid, unix.SIGKILL)
	}
}

// dryRunEnded is told by the reaper.
func (sv *supervisor) dryRunEnded(ws unix.WaitStatus) {
	f := &sv.follow
	buf := make([]byte, 64<<10)
	n, _ := unix.Read(f.out, buf)
	_ = unix.Close(f.out)
	f.pid, f.out = 0, 0
	sv.dl.follow = time.Time{}
	err := judge(ws, string(buf[:max(0, n)]))
	if f.late {
		err = fmt.Errorf("dry run: not done within %v", dryRunLimit)
	}
	switch {
	case sv.stopping:
	case err != nil:
		sv.refuse(f.trying, err)
	default:
		f.checked = f.trying
	}
}

// judge says what is wrong with a dry run that ended so and has said that.
func judge(ws unix.WaitStatus, said string) error {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	last := lines[len(lines)-1]
	if ws.Exited() && ws.ExitStatus() == 0 && last == stateRead {
		return nil
	}
	if last == "" {
		last = "not a word"
	}
	return fmt.Errorf("dry run: %s: %s", describe(ws), last)
}

// dryRun is the life of the child. It touches no descriptor that the state names.
func dryRun(fd int) int {
	b, err := spawn.ReadMemory(fd)
	if err == nil {
		_, err = parseState(b)
	}
	step.At(step.Checking)
	if err != nil {
		fmt.Println(err)
		return exitSystem
	}
	fmt.Println(stateRead)
	return exitOK
}

// becomeOther executes the new binary. It returns when that has failed, or when something has come in between.
func (sv *supervisor) becomeOther() {
	defer sv.resumeControl()
	if !sv.calmControl() {
		sv.dl.follow = time.Now().Add(followAgain)
		return
	}
	id := sv.follow.want
	sv.log.Info("supervisor: following to the binary of the last COMMIT", "version", sv.registry[EntryExe].data)
	sv.sink.Flush(lastLines)
	err := sv.execute()
	if err != nil {
		sv.refuse(id, err)
	}
	sv.compare() // a HUP was lost, perhaps
}

// execute returns nil if something has come in between: then it is tried again at rest.
func (sv *supervisor) execute() error {
	defer sv.resumeReaders()
	if !sv.pauseReaders() {
		return nil
	}
	defer sv.obeySignals()
	if !sv.holdSignals() {
		return nil
	}
	st, err := sv.snapshot()
	if err != nil {
		return err
	}
	fd, err := st.memory()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	step.At(step.Following)
	return execKeeping(append(st.fds(), fd), func() error {
		// Our own descriptor: a path may be another file by now.
		exe := fmt.Sprintf("/proc/self/fd/%d", sv.registry[EntryExe].fd)
		env := append(followEnv(os.Environ(), fmt.Sprintf("state %d", fd)), systemdEnv()...)
		return syscall.Exec(exe, sv.supervisorArgs(), env)
	})
}

// memory is the state as a memory file.
func (st *state) memory() (int, error) {
	b, err := st.encode()
	if err != nil {
		return -1, err
	}
	return spawn.Memory("state", b)
}

// execKeeping calls exec while the descriptors stay open over it, and nobody forks: a child would keep them.
func execKeeping(fds []int, exec func() error) error {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	err := closeOnExec(fds, false)
	if err == nil {
		err = fmt.Errorf("exec: %w", exec())
	}
	return errors.Join(err, closeOnExec(fds, true))
}

// takeOver goes on from the state of the supervisor that has executed us.
func (sv *supervisor) takeOver(fd int) error {
	b, err := spawn.ReadMemory(fd)
	_ = unix.Close(fd)
	if err != nil {
		return err
	}
	st, err := parseState(b)
	if err != nil {
		return err
	}
	if err := errors.Join(closeOnExec(st.fds(), true), sv.restore(st)); err != nil {
		return err
	}
	sv.systemd.resume(sv.registry)
	step.At(step.Followed)
	sv.switchLog()
	sv.log.Info("supervisor: has followed", "version", sv.opts.Version, "before", st.Program)
	sv.reap()
	go sv.readDoor()
	go sv.read(sv.current)
	sv.resumeControl()
	sv.syncStore()
	if sv.tty != nil && sv.tty.gone.Load() == 0 {
		go sv.tty.await()
	}
	if sv.tty.hungUp() { // its HUP was lost
		sv.onSignal(syscall.SIGHUP)
	}
	sv.compare() // another HUP was lost, perhaps
	return nil
}

// pauseReaders stops reading what masters say, so that the rest of it stays in the kernel; what had been read already is
// obeyed. It reports whether the supervisor is still at rest, and all that it had to say is said.
func (sv *supervisor) pauseReaders() bool {
	if !sv.atRest() {
		return false
	}
	sv.current.conn.StopReading()
	sv.door.StopReading()
	s := sv.current
	for !s.paused && s.phase != phaseGone || !sv.doorPaused && !sv.doorBroken {
		sv.onPacket(<-sv.packets)
	}
	return sv.atRest() && sv.current.conn.Idle() && sv.systemd.idle()
}

// resumeReaders undoes it.
func (sv *supervisor) resumeReaders() {
	if sv.doorPaused {
		sv.doorPaused = false
		sv.door.ResumeReading()
		go sv.readDoor()
	}
	if s := sv.current; s != nil && s.paused {
		s.paused = false
		s.conn.ResumeReading()
		go sv.read(s)
	}
}
