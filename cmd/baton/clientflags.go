package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"baton/cmd/baton/internal/config"
)

// clientFlags are the flags of the commands that talk to a running baton.
type clientFlags struct {
	*flagSet
	control, config string
}

func newClientFlags(command string) *clientFlags {
	c := &clientFlags{flagSet: newFlagSet(command)}
	c.StringVar(&c.control, "control", "", "")
	c.StringVar(&c.config, "config", "", "")
	return c
}

// client finds the control socket: the flag, the config file's key, the environment, the default.
func (c *clientFlags) client() (*client, error) {
	path := c.control
	if path == "" && c.config != "" {
		var err error
		if path, err = controlOf(c.config); err != nil {
			return nil, err
		}
	}
	return newClient(cmp.Or(path, os.Getenv(controlEnv), defaultControl)), nil
}

// controlOf reads only what is needed: the file may be broken elsewhere, and that is when people ask for the status.
func controlOf(file string) (string, error) {
	doc, _, err := readConfig(file)
	if err != nil {
		return "", err
	}
	var f struct {
		Control *string `toml:"control"`
	}
	if err := toml.Unmarshal(doc, &f); err != nil {
		m := &mistake{}
		if errors.As(config.Syntax(file, doc, err), &m) {
			m.Hint = "--control names the socket without the file"
		}
		return "", m
	}
	switch {
	case f.Control == nil:
		return "", nil
	case *f.Control == "":
		return "", &mistake{File: file, What: "control is \"\": there is no control socket", Hint: "signals work: see baton help"}
	}
	return config.Absolute(filepath.Dir(file), *f.Control), nil
}
