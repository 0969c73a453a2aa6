package watch

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSums(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sum := func(contents ...string) Sum {
		t.Helper()
		var files []string
		for i, c := range contents {
			f := filepath.Join(dir, string(rune('a'+i)))
			inPlace(t, f, c)
			files = append(files, f)
		}
		s, err := Read(files)
		must(t, err)
		return s
	}
	if first, second := sum("x", "y"), sum("x", "y"); first != second {
		t.Error("the same files have two sums")
	}
	seen := map[Sum][]string{}
	for _, contents := range [][]string{
		{}, {""}, {"", ""}, {"x"}, {"xy"}, {"x", "y"}, {"y", "x"}, {"xy", ""}, {"", "xy"}, {"1\nx"}, {"1\nx1\ny"},
	} {
		s := sum(contents...)
		if other, ok := seen[s]; ok {
			t.Errorf("%q and %q have one sum", contents, other)
		}
		seen[s] = contents
	}
}

func TestReadOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	there := one(t)
	if _, err := Read([]string{there, there + "x"}); !errors.Is(err, fs.ErrNotExist) || !missing(err) {
		t.Error(err)
	}
	if _, err := Read([]string{filepath.Dir(there)}); err == nil || missing(err) {
		t.Error(err)
	}
}

// TestSumOfNoFile: where a file was there may be something without an end.
func TestSumOfNoFile(t *testing.T) {
	t.Parallel()
	file := one(t)
	was, err := Read([]string{file})
	must(t, err)
	for _, replace := range []func() error{
		func() error { return os.Symlink("/dev/zero", file) },
		func() error { return unix.Mkfifo(file, 0o600) },
		func() error {
			ln, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", file)
			if err == nil {
				t.Cleanup(func() { _ = ln.Close() })
			}
			return err
		},
	} {
		must(t, os.Remove(file), replace())
		now, err := Read([]string{file})
		must(t, err)
		if now == was {
			t.Error("the change is not seen")
		}
		was = now
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t,
		os.MkdirAll(filepath.Join(dir, "releases", "1"), 0o700),
		os.Mkdir(filepath.Join(dir, "etc"), 0o700),
		os.Symlink("releases/1", filepath.Join(dir, "current")),
		os.Symlink("../current/config", filepath.Join(dir, "etc", "config")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
	)
	inPlace(t, filepath.Join(dir, "releases", "1", "config"), "one")
	for _, tt := range []struct {
		path string
		want []string
	}{
		{"releases/1/config", []string{"releases/1"}},
		{"releases/1/missing", []string{"releases/1"}},
		{"current/config", []string{"", "releases", "current"}},
		{"etc/config", []string{"etc", "", "releases", "current"}},
		{"loop", []string{""}},
	} {
		got := directories(filepath.Join(dir, tt.path))
		for _, want := range tt.want {
			if !slices.Contains(got, filepath.Join(dir, want)) {
				t.Errorf("%s: %q does not have %q", tt.path, got, want)
			}
		}
	}
}
