package mastertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// BuildOptions say which binary [Build] makes.
type BuildOptions struct {
	// Version becomes main.version. If empty, "v1".
	Version string

	// Tags are build tags, "batonsteps" for one.
	Tags []string

	// NoRace leaves the race detector out even if the test has it, where its memory and its wake-ups would be measured.
	NoRace bool

	// Package is what is built. If empty, ./cmd/baton. It may be a directory that does not exist, if Add fills it.
	Package string

	// Add are files, by name, that are in the package's directory for the compiler only: an init function that makes
	// a worker crash, for one, or a whole program that may import what is internal to master.
	Add map[string]string
}

// Build returns the path of a binary, which is built once per test run, with the race detector if the test has it.
// The file is shared by all tests: link or copy it, but do not change it.
func Build(tb testing.TB, opts BuildOptions) string {
	tb.Helper()
	path, err := tryBuild(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

func tryBuild(opts BuildOptions) (path string, err error) {
	if opts.Version == "" {
		opts.Version = "v1"
	}
	if opts.Package == "" {
		opts.Package = "./cmd/baton"
	}
	return builds.once(fmt.Sprint(opts), func(out string) error { return goBuild(out, opts) })
}

// BuildProgram builds a program of one file that is not in the repository but may import what is, internal packages
// of master included.
func BuildProgram(tb testing.TB, source string) string {
	tb.Helper()
	name := fmt.Sprintf("./master/zz_%x", sha256.Sum256([]byte(source)))
	return Build(tb, BuildOptions{Package: name, Add: map[string]string{"main.go": source}})
}

// stamp is the version of the binary that is copied for [Baton.Upgrade]. It has the length of what replaces it.
const stamp = "v0.0.0-stamp-000000"

// stamped is a binary whose main.version is a different one for each n, and that version. It costs a copy and not a
// build: the version is written over.
func stamped(tb testing.TB, n int) (binary []byte, version string) {
	tb.Helper()
	b, err := os.ReadFile(Build(tb, BuildOptions{Version: stamp}))
	if err != nil {
		tb.Fatal(err)
	}
	if !bytes.Contains(b, []byte(stamp)) {
		tb.Fatal("the binary does not contain its version")
	}
	version = fmt.Sprintf("v0.0.0-build-%06d", n)
	return bytes.ReplaceAll(b, []byte(stamp), []byte(version)), version
}

// goBuild runs the go command in the module's root.
func goBuild(out string, opts BuildOptions) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	args := []string{
		"build", "-o", out, "-tags", strings.Join(opts.Tags, ","), "-ldflags",
		"-X main.version=" + opts.Version,
	}
	if Race && !opts.NoRace {
		args = append(args, "-race")
	}
	if len(opts.Add) > 0 {
		overlay, err := writeOverlay(out, filepath.Join(root, opts.Package), opts.Add)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.Command("go", append(args, opts.Package)...)
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", opts.Package, err, text)
	}
	return nil
}

// writeOverlay writes the files, and the list by which the go command finds them in a directory.
func writeOverlay(out, directory string, files map[string]string) (path string, err error) {
	replace := map[string]string{}
	for name, source := range files {
		file := out + "-" + name
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(directory, name)] = file
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", err
	}
	return out + ".json", os.WriteFile(out+".json", list, 0o600)
}

// moduleRoot is the directory of go.mod, above the directory that the test runs in.
var moduleRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod above the test's directory")
		}
		dir = up
	}
})

// builds are the binaries of this test run.
var builds buildCache

type buildCache struct {
	mu   sync.Mutex
	dir  string
	made map[string]func() (string, error)
}

// once returns the file that build has written for this key, now or before.
func (c *buildCache) once(key string, build func(out string) error) (string, error) {
	c.mu.Lock()
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "baton-build")
		if err != nil {
			c.mu.Unlock()
			return "", err
		}
		c.dir, c.made = dir, map[string]func() (string, error){}
	}
	f := c.made[key]
	if f == nil {
		out := filepath.Join(c.dir, fmt.Sprintf("b%d", len(c.made)))
		f = sync.OnceValues(func() (string, error) { return out, build(out) })
		c.made[key] = f
	}
	c.mu.Unlock()
	return f()
}

func (c *buildCache) remove() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dir != "" {
		os.RemoveAll(c.dir)
	}
}
