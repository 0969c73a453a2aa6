package main

import (
	"os"
	"time"
)

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
