package site

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// checkInterval is how long a directory's path may mean another directory before that is noticed.
const checkInterval = time.Second

// directory is the directory that a path means: another one after a rename or a change of a symbolic link, with which
// deployments replace it.
type directory struct {
	path string
	root atomic.Pointer[os.Root]
	next atomic.Int64 // when to check again, in Unix nanoseconds

	mu   sync.Mutex // is held while checking
	info os.FileInfo
}

func openDirectory(path string) (*directory, error) {
	d := &directory{path: path}
	d.next.Store(time.Now().Add(checkInterval).UnixNano())
	return d, d.open()
}

func (d *directory) open() error {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return err
	}
	if d.info, err = root.Stat("."); err != nil {
		_ = root.Close()
		return err
	}
	d.root.Store(root) // the one before closes itself when its last request has ended
	return nil
}

// current returns what the path means now, or what it has meant while there is nothing in its place.
func (d *directory) current() *os.Root {
	now := time.Now().UnixNano()
	if now >= d.next.Load() && d.mu.TryLock() {
		defer d.mu.Unlock()
		d.next.Store(now + int64(checkInterval))
		if info, err := os.Stat(d.path); err == nil && !os.SameFile(info, d.info) {
			_ = d.open()
		}
	}
	return d.root.Load()
}
