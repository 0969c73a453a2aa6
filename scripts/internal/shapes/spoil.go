package main

import (
	"os"
	"path/filepath"
	"time"

	"baton/scripts/internal/harness"
)

// saver is a way to write a file: by rename, if nothing else is said.
func saver(how string) func(string, []byte, os.FileMode) error {
	switch how {
	case "slow":
		return saveSlowly
	case "link":
		return saveLinked
	default:
		return harness.Save
	}
}

// saveLinked makes the file a link, and puts another link in its place when it changes, as in a ConfigMap of
// Kubernetes.
func saveLinked(path string, content []byte, mode os.FileMode) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), "..data")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	real := filepath.Join(dir, filepath.Base(path))
	if err == nil {
		err = os.WriteFile(real, content, mode)
	}
	if err == nil {
		err = os.Symlink(real, path+".link")
	}
	if err != nil {
		return err
	}
	return os.Rename(path+".link", path)
}

// saveSlowly writes a file as some editors and scp do: in place, and not at once.
func saveSlowly(path string, content []byte, mode os.FileMode) error {
	half := len(content) / 2
	if err := os.WriteFile(path, content[:half], mode); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond)
	return os.WriteFile(path, content, mode)
}

// spoil breaks the file of the program that is installed. A reload must fail then, and say why; the file is mended
// afterwards.
func (w *walk) spoil(how string) {
	w.pauses.Wait() // a command says of a supervisor that is stopped that it is so, and ends
	name := w.path("site.toml")
	if foreign(w.state.program) {
		name = w.path("walk.json")
	}
	content, err := os.ReadFile(name)
	switch {
	case err != nil:
	case how == "gone":
		err = os.Remove(name)
	case how == "half":
		err = os.WriteFile(name, append(content[:len(content)/2:len(content)/2], "\n[[ {"...), 0o644)
	default:
		err = os.WriteFile(name, []byte("\x00\xff junk"), 0o644)
	}
	if err != nil {
		w.findf("walk", "%v", err)
	}
	if code, out := w.command(bound, "reload"); code != 1 || out == "" {
		w.findf("check and reload", "the config is %s, and the reload ended with %d: %s", how, code, out)
	}
	w.write(w.state)
}
