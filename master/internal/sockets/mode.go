package sockets

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// boundMode makes bind create the socket's file with this mode, less the umask, so that at no moment it is open to more.
func boundMode(fd int, mode os.FileMode) error {
	return os.NewSyscallError("fchmod", unix.Fchmod(fd, uint32(mode.Perm())))
}

// giveMode adds what the umask has taken away. Whoever may write in the folder may have put something else at the path by
// now: that is left alone, and no link is followed.
func giveMode(path string, mode os.FileMode) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("the socket was replaced by something else as soon as it was there")
	}
	if st.Mode&0o777 == uint32(mode.Perm()) {
		return nil
	}
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}
