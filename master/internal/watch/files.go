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
	"strings"

	"golang.org/x/sys/unix"
)

// A Sum identifies the content of all watched files.
type Sum [sha256.Size]byte

// Read returns the sum of the files as they are now. It fails if one of them cannot be read.
func Read(files []string) (Sum, error) {
	h := sha256.New()
	for _, f := range files {
		if err := add(h, f); err != nil {
			return Sum{}, fmt.Errorf("watch: %w", err)
		}
	}
	return Sum(h.Sum(nil)), nil
}

// maxRead is how much of a file is read: nobody watches a larger one.
const maxRead = 64 << 20

// add sums up one file. Of a file that is not regular, and may have no end, only the kind counts.
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
	_, err = io.CopyN(h, f, maxRead)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// directories returns those in which a change can change what a path leads to: the path's own, and those of every
// symbolic link on the way and of its target.
func directories(path string) []string {
	all := []string{filepath.Dir(path)}
	for range 40 { // as many links as the kernel follows
		link, target := firstLink(path)
		if link == "" {
			break
		}
		path = filepath.Clean(target + strings.TrimPrefix(path, link))
		for _, dir := range []string{filepath.Dir(link), filepath.Dir(target), filepath.Dir(path)} {
			if !slices.Contains(all, dir) {
				all = append(all, dir)
			}
		}
	}
	return all
}

// firstLink returns the symbolic link that comes first on the way to path, and its target; or "".
func firstLink(path string) (link, target string) {
	for p := path; p != "/" && p != "."; p = filepath.Dir(p) {
		if t, err := os.Readlink(p); err == nil {
			link, target = p, t
		}
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(link), target)
	}
	return link, target
}

// existing returns dir, or the nearest directory above it that is there: in it dir can come back.
func existing(dir string) string {
	for dir != "/" && dir != "." {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

// remote are the file systems on which inotify does not see what other machines do.
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
