package spawn

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAs: another user's eyes see what he may see, and afterwards all is as before.
func TestAs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look as somebody else")
	}
	//nolint:usetesting // others may not look into what t.TempDir makes
	dir, err := os.MkdirTemp("/tmp", "as")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	in := func(name string) string { return filepath.Join(dir, name) }
	err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(in("all"), 0o755), os.Mkdir(in("root"), 0o700),
		os.Mkdir(in("group"), 0o750),
		os.Chown(in("group"), 0, 4713))
	if err != nil {
		t.Fatal(err)
	}
	u := User{UID: 4711, GID: 4712, Groups: []int{4713}}
	if MayBecome(u) != nil {
		t.Skip("no capability to look as somebody else")
	}
	open := func(name string) func() error {
		return func() error {
			f, err := os.Open(in(name))
			if err == nil {
				_ = f.Close()
			}
			return err
		}
	}
	visible, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	for range 50 { // on whatever threads
		if err := As(u, open("root")); !errors.Is(err, fs.ErrPermission) {
			t.Fatalf("root's: %v", err)
		}
		for _, name := range []string{"all", "group"} {
			if err := As(u, open(name)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := open("root")(); err != nil {
			t.Fatalf("afterwards: %v", err)
		}
	}
	if now, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); now != visible {
		t.Errorf("dumpable was %d and is %d", visible, now)
	}
}
