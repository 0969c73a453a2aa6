// Package ownfile tells the files that this program has made from what somebody else has put at the same path since.
//
// A file is known by its device and inode. The number of an inode is given to another file when the last of it is
// gone: so a process that has made one keeps it open. A Unix socket that is bound does that by itself.
package ownfile

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"baton/worker/wire"
)

// At returns the file that is at a path now; a link is a file of its own.
func At(path string) (wire.Path, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return wire.Path{}, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return of(path, &st), nil
}

// Of returns the file that is open as fd, and was opened at path.
func Of(fd int, path string) (wire.Path, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return wire.Path{}, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	return of(path, &st), nil
}

func of(path string, st *unix.Stat_t) wire.Path {
	return wire.Path{Path: path, Dev: int64(st.Dev), Ino: int64(st.Ino)}
}

// Is reports whether p is still at its path, as it was made.
func Is(p wire.Path) bool {
	now, err := At(p.Path)
	now.Text = p.Text
	return err == nil && now == p && (p.Text == "" || reads(p))
}

// reads reports whether the text in p is what it was.
func reads(p wire.Path) bool {
	fd, err := unix.Open(p.Path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, len(p.Text)+1)
	n, err := unix.Read(fd, b)
	return err == nil && string(b[:n]) == p.Text
}

// Kind is what a file is, in words.
func Kind(mode fs.FileMode) string {
	switch mode.Type() {
	case 0:
		return "file"
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "symbolic link"
	case fs.ModeSocket:
		return "socket"
	case fs.ModeNamedPipe:
		return "named pipe"
	default:
		return "device"
	}
}

// Remove removes the file, unless another one is at its path.
func Remove(p wire.Path) {
	if Is(p) {
		_ = os.Remove(p.Path)
	}
}
