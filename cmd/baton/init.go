package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"baton/cmd/baton/internal/config"
)

// initFile is `baton init`. It writes the file that documents every key and sets it to its default.
func initFile(c *call) error {
	path := "baton.toml"
	if len(c.args) > 0 {
		path = c.args[0]
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &usageError{What: "init: " + path + " is there already", Hint: "as baton init another.toml"}
	}
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	_, err = f.Write(config.Reference())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("init: %w", err)
	}
	c.say("%s: every key, with its default", path)
	return nil
}
