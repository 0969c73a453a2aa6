package ownfile

import (
	"os"
	"path/filepath"
	"testing"

	"baton/worker/wire"
)

// TestRemove: of all that may be at a path only the very file is removed.
func TestRemove(t *testing.T) {
	t.Parallel()
	replace := func(t *testing.T, path string, with func(path string) error) {
		t.Helper()
		if err := os.Rename(path, path+".before"); err != nil { // which keeps the inode
			t.Fatal(err)
		}
		if err := with(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name  string
		text  string // that was noted
		since func(t *testing.T, path string)
		stays bool
	}{
		{"as it was", "", func(*testing.T, string) {}, false},
		{"as it was, with its text", "12\n", func(*testing.T, string) {}, false},
		{"another text in it", "", func(t *testing.T, path string) { write(t, path, "34\n") }, false},
		{"another text in it, with its text", "12\n", func(t *testing.T, path string) { write(t, path, "34\n") }, true},
		{"a longer text in it", "12\n", func(t *testing.T, path string) { write(t, path, "12\n3") }, true},
		{"another file", "", func(t *testing.T, path string) {
			replace(t, path, func(p string) error { return os.WriteFile(p, []byte("12\n"), 0o600) })
		}, true},
		{"a directory", "", func(t *testing.T, path string) {
			replace(t, path, func(p string) error { return os.Mkdir(p, 0o700) })
		}, true},
		{"a link to it", "", func(t *testing.T, path string) {
			replace(t, path, func(p string) error { return os.Symlink(p+".before", p) })
		}, true},
		{"nothing", "", func(t *testing.T, path string) { replace(t, path, func(string) error { return nil }) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "b\xff")
			write(t, path, "12\n")
			p, err := At(path)
			if err != nil {
				t.Fatal(err)
			}
			p.Text = tc.text
			tc.since(t, path)
			Remove(p)
			if _, err := os.Lstat(path); (err == nil) != tc.stays {
				t.Errorf("%v, want it there: %v", err, tc.stays)
			}
		})
	}
	Remove(wire.Path{}) // is nobody's
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOf: an open file is the one at its path, until another one is there.
func TestOf(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := Of(int(f.Fd()), f.Name())
	if err != nil || !Is(p) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	write(t, f.Name(), "")
	if Is(p) {
		t.Error("another file is taken for it")
	}
}
