package site

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// lookPause is how long a directory's path may mean another one before that is noticed.
const lookPause = time.Second

// directory is what a path means: another directory when somebody has put one in its place, by a rename or with a symbolic link,
// as deployments do.
type directory struct {
	path string
	root atomic.Pointer[os.Root]

	mu   sync.Mutex // is held while looking
	info os.FileInfo
	next atomic.Int64 // when to look again, in Unix nanoseconds
}

func openDirectory(path string) (*directory, error) {
	d := &directory{path: path}
	if err := d.open(); err != nil {
		return nil, err
	}
	d.next.Store(time.Now().Add(lookPause).UnixNano())
	return d, nil
}

func (d *directory) open() error {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return err
	}
	info, err := root.Stat(".")
	if err != nil {
		_ = root.Close()
		return err
	}
	d.info = info
	d.root.Store(root) // the one before closes itself when its last request has ended
	return nil
}

// current is what the path means now, or what it has meant while there is nothing in its place.
func (d *directory) current() *os.Root {
	now := time.Now().UnixNano()
	if now >= d.next.Load() && d.mu.TryLock() {
		defer d.mu.Unlock()
		d.next.Store(now + int64(lookPause))
		if info, err := os.Stat(d.path); err == nil && !os.SameFile(info, d.info) {
			_ = d.open()
		}
	}
	return d.root.Load()
}
