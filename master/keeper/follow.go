package keeper

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
	"baton/master/keeper/internal/early"
	"baton/worker"
)

// The keeper follows: when the executable of the last COMMIT is another file than its own, it executes that one, under the
// same PID. A child of that binary has read the keeper's state before, and said so (the dry run).
//
// It is done at rest only, when nobody waits for an answer on the control socket, and not before followQuiet has passed
// since COMMIT: several upgrades in a row are followed once, and who upgrades and then stops at once meets no keeper that
// is about to change.
const (
	followQuiet = 500 * time.Millisecond
	followAgain = time.Second // after a master did not read what was posted to it
	dryRunLimit = 10 * time.Second
	lastLines   = 50 * time.Millisecond // for the log, before the execve
)

// stateRead is the last line of a dry run that went well.
const stateRead = "baton: the keeper's state is understood"

// fileID is a file. One that is being executed is not written to, and its inode is not given to another while it is open,
// so that two executables with the same fileID are the same.
type fileID struct{ dev, ino uint64 }

// follow is how far the keeper has come in following. Its zero value: there is nothing to follow.
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
func (k *keeper) exePath() string {
	e, ok := k.store[EntryExe]
	if !ok || e.fd < 0 {
		return "/proc/self/exe"
	}
	return fmt.Sprintf("/proc/%d/fd/%d", k.pid, e.fd)
}

// noteExe is called after COMMIT.
func (k *keeper) noteExe() {
	f := &k.follow
	id := statFile(k.exePath())
	if id != f.refused {
		f.refused = fileID{}
	}
	switch id {
	case f.want:
	case f.self:
		f.want = fileID{}
		k.setProblem(problemFollow, "")
	case fileID{}, f.refused:
		f.want = fileID{}
	default:
		f.want, f.since = id, time.Now()
	}
}

// atRest reports whether nothing is going on but that workers serve, or drain.
func (k *keeper) atRest() bool {
	return k.attempt == nil && k.old == nil && k.count == k.served && k.starting == nil && k.live == 1 && !k.stopping &&
		len(k.dead) == 0 && len(k.leaving) == 0 && len(k.resizes) == 0 && !k.reopen && !k.doorBroken &&
		k.current != nil && k.current.phase == phaseCurrent && k.current.serving && k.current.reopens == 0 && k.current.end == ""
}

// tryFollow is called after every event.
func (k *keeper) tryFollow(now time.Time) {
	f := &k.follow
	if f.want == (fileID{}) || f.pid != 0 || !k.atRest() {
		return
	}
	if wait := f.since.Add(followQuiet).Sub(now); wait > 0 {
		k.dl.follow = now.Add(wait)
		return
	}
	k.dl.follow = time.Time{}
	switch {
	case f.want != f.checked:
		if err := k.startDryRun(now); err != nil {
			k.refuse(f.want, err)
		}
	case !k.current.conn.Idle() || !k.systemd.idle() || len(k.questions) > 0:
		k.dl.follow = now.Add(followAgain)
	default:
		k.becomeOther()
	}
}

// refuse gives a binary up, until the COMMIT of another one.
func (k *keeper) refuse(id fileID, err error) {
	k.log.Error("keeper: cannot follow to the new binary, staying as it is", "version", k.opts.Version, "error", err)
	k.follow.refused = id
	if k.follow.want == id {
		k.follow.want = fileID{}
		k.setProblem(problemFollow, fmt.Sprintf("the keeper stays at version %s: %s", k.opts.Version, shorten(err.Error())))
	}
}

// startDryRun starts a child of the new binary on a copy of the state. Its end is an event, see dryRunEnded.
func (k *keeper) startDryRun(now time.Time) error {
	st, err := k.snapshot()
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
	pid, err := spawnFrom(k.exePath(), k.keeperArgs(), &syscall.ProcAttr{
		Dir:   "/",
		Env:   followEnv(os.Environ(), "check 3"),
		Files: []uintptr{0, uintptr(pipe[1]), uintptr(pipe[1]), uintptr(fd)},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		_ = unix.Close(pipe[0])
		return fmt.Errorf("dry run: %w", err)
	}
	k.follow.pid, k.follow.out, k.follow.trying, k.follow.late = pid, pipe[0], k.follow.want, false
	k.dl.follow = now.Add(dryRunLimit)
	return nil
}

// keeperArgs are the arguments of a process in the role of the keeper.
func (k *keeper) keeperArgs() []string {
	return append([]string{k.args[0], worker.RoleKeeper}, k.args[1:]...)
}

func followEnv(env []string, order string) []string {
	return append(Scrub(env), worker.RoleEnv+"="+worker.RoleKeeper, early.Env+"="+order)
}

// onFollowTime: the dry run has had its time, or it is time to look again.
func (k *keeper) onFollowTime() {
	if k.follow.pid != 0 {
		k.follow.late = true
		_ = unix.Kill(k.follow.pid, unix.SIGKILL)
	}
}

// dryRunEnded is told by the reaper.
func (k *keeper) dryRunEnded(ws unix.WaitStatus) {
	f := &k.follow
	buf := make([]byte, 64<<10)
	n, _ := unix.Read(f.out, buf)
	_ = unix.Close(f.out)
	f.pid, f.out = 0, 0
	k.dl.follow = time.Time{}
	err := judge(ws, string(buf[:max(0, n)]))
	if f.late {
		err = fmt.Errorf("dry run: not done within %v", dryRunLimit)
	}
	switch {
	case k.stopping:
	case err != nil:
		k.refuse(f.trying, err)
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
func (k *keeper) becomeOther() {
	defer k.resumeControl()
	if !k.calmControl() {
		k.dl.follow = time.Now().Add(followAgain)
		return
	}
	id := k.follow.want
	k.log.Info("keeper: following to the binary of the last COMMIT", "version", k.store[EntryExe].data)
	k.sink.Flush(lastLines)
	err := k.execute()
	if err != nil {
		k.refuse(id, err)
	}
	k.compare() // a HUP was lost, perhaps
}

// execute returns nil if something has come in between: then it is tried again at rest.
func (k *keeper) execute() error {
	defer k.resumeReaders()
	if !k.pauseReaders() {
		return nil
	}
	defer k.obeySignals()
	if !k.holdSignals() {
		return nil
	}
	st, err := k.snapshot()
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
		exe := fmt.Sprintf("/proc/self/fd/%d", k.store[EntryExe].fd)
		env := append(followEnv(os.Environ(), fmt.Sprintf("state %d", fd)), systemdEnv()...)
		return syscall.Exec(exe, k.keeperArgs(), env)
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

// takeOver goes on from the state of the keeper that has executed us.
func (k *keeper) takeOver(fd int) error {
	b, err := spawn.ReadMemory(fd)
	_ = unix.Close(fd)
	if err != nil {
		return err
	}
	st, err := parseState(b)
	if err != nil {
		return err
	}
	if err := errors.Join(closeOnExec(st.fds(), true), k.restore(st)); err != nil {
		return err
	}
	k.systemd.resume(k.store)
	step.At(step.Followed)
	k.switchLog()
	k.log.Info("keeper: has followed", "version", k.opts.Version, "before", st.Program)
	k.reap()
	go k.readDoor()
	go k.read(k.current)
	k.resumeControl()
	k.syncStore()
	if k.tty != nil && k.tty.gone.Load() == 0 {
		go k.tty.await()
	}
	if k.tty.hungUp() { // its HUP was lost
		k.onSignal(syscall.SIGHUP)
	}
	k.compare() // another HUP was lost, perhaps
	return nil
}

// pauseReaders stops reading what masters say, so that the rest of it stays in the kernel; what had been read already is
// obeyed. It reports whether the keeper is still at rest, and all that it had to say is said.
func (k *keeper) pauseReaders() bool {
	if !k.atRest() {
		return false
	}
	k.current.conn.StopReading()
	k.door.StopReading()
	s := k.current
	for !s.paused && s.phase != phaseGone || !k.doorPaused && !k.doorBroken {
		k.onPacket(<-k.packets)
	}
	return k.atRest() && k.current.conn.Idle() && k.systemd.idle()
}

// resumeReaders undoes it.
func (k *keeper) resumeReaders() {
	if k.doorPaused {
		k.doorPaused = false
		k.door.ResumeReading()
		go k.readDoor()
	}
	if s := k.current; s != nil && s.paused {
		s.paused = false
		s.conn.ResumeReading()
		go k.read(s)
	}
}
