package watch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A Sum identifies the content of all watched files.
type Sum [sha256.Size]byte

// Read sums up the files as they are now. It fails if one of them cannot be read.
func Read(files []string) (Sum, error) {
	h := sha256.New()
	for _, f := range files {
		if err := add(h, f); err != nil {
			return Sum{}, fmt.Errorf("watch: %w", err)
		}
	}
	return Sum(h.Sum(nil)), nil
}

// most is how much of a file is read: nobody watches a larger one.
const most = 64 << 20

// add sums up one file. Of what is no regular file, and may have no end, it is only the kind.
func add(h hash.Hash, path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a named pipe without a writer would block
	if errors.Is(err, unix.ENXIO) {
		_, _ = fmt.Fprintln(h, "a socket")
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		_, _ = fmt.Fprintln(h, info.Mode().Type())
		return nil
	}
	_, _ = fmt.Fprintln(h, info.Size())
	_, err = io.CopyN(h, f, most)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// folders are those in which something can change what a path leads to: the path's own, and that of every symbolic link
// on the way.
func folders(path string) []string {
	var all []string
	for range 40 { // as many links as the kernel follows
		dir := filepath.Dir(path)
		all = append(all, linkFolders(dir)...)
		if !slices.Contains(all, dir) {
			all = append(all, dir)
		}
		target, err := os.Readlink(path)
		if err != nil {
			return all
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return all
}

// linkFolders are the folders that hold a symbolic link on the way to dir.
func linkFolders(dir string) []string {
	var all []string
	for d := dir; d != "/" && d != "."; d = filepath.Dir(d) {
		fi, err := os.Lstat(d)
		if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			all = append(all, filepath.Dir(d))
			if target, err := os.Readlink(d); err == nil {
				if !filepath.IsAbs(target) {
					target = filepath.Join(filepath.Dir(d), target)
				}
				all = append(all, filepath.Dir(target))
			}
		}
	}
	return all
}

// existing is dir, or of the folders above it the nearest that is there: in it dir can come back.
func existing(dir string) string {
	for dir != "/" && dir != "." {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// remote lists the file systems whose other users inotify does not see.
var remote = []int64{
	unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.V9FS_MAGIC,
	unix.FUSE_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.CODA_SUPER_MAGIC,
}

func isRemote(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	return slices.Contains(remote, int64(st.Type)) //nolint:unconvert // its type is not the same on all architectures
}

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
