package program

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// socketDir is how the directories of sockets are called.
const socketDir = "baton-socket-"

// newSocket makes a private directory, and returns the path of a socket in it. The directory is locked as long as this
// process lives: those that a killed process has left are known by that, and removed whenever another one begins or
// ends.
func newSocket() (*address, error) {
	sweepSockets()
	for {
		dir, err := os.MkdirTemp("", socketDir)
		if err != nil {
			return nil, err
		}
		lock, err := lockDir(dir, 0)
		if os.IsNotExist(err) {
			continue // another process has swept it before it was locked
		}
		if err != nil {
			return nil, err
		}
		release := func() {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
			sweepSockets()
		}
		return &address{network: "unix", name: filepath.Join(dir, "socket"), release: release}, nil
	}
}

// sweepSockets removes what killed processes of this user have left.
func sweepSockets() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), socketDir+"*"))
	for _, dir := range dirs {
		if lock, err := lockDir(dir, unix.LOCK_NB); err == nil {
			_ = os.RemoveAll(dir)
			_ = lock.Close()
		}
	}
}

// lockDir locks a directory of this user that still has its name.
func lockDir(dir string, flags int) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	var st unix.Stat_t
	if err = unix.Flock(fd, unix.LOCK_EX|flags); err == nil {
		err = unix.Fstat(fd, &st)
	}
	switch {
	case err != nil:
	case st.Nlink == 0:
		err = unix.ENOENT
	case int(st.Uid) != os.Geteuid():
		err = unix.EPERM
	default:
		return f, nil
	}
	_ = f.Close()
	return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
}
