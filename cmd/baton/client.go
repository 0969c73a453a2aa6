package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// client finds the control socket: the flag, the config file's key, the environment, the default.
func (c *call) client() (*master.Client, error) {
	path := c.control
	if path == "" && c.config != "" {
		var err error
		if path, err = controlOf(c.config); err != nil {
			return nil, err
		}
	}
	return master.NewClient(cmp.Or(path, os.Getenv(controlEnv), defaultControl)), nil
}

// controlOf reads only the key control: the file may be broken elsewhere, and that is when people ask for the status.
func controlOf(file string) (string, error) {
	doc, _, err := readConfig(file)
	if err != nil {
		return "", err
	}
	var f struct {
		Control *string `toml:"control"`
	}
	if err := toml.Unmarshal(doc, &f); err != nil {
		e := config.SyntaxError(file, doc, err)
		e.Hint = "--control names the socket without the file"
		return "", e
	}
	switch {
	case f.Control == nil:
		return "", nil
	case *f.Control == "":
		return "", &usageError{
			File: file, What: "control is \"\": there is no control socket", Hint: "signals work: see baton help",
		}
	}
	return config.Absolute(filepath.Dir(file), *f.Control), nil
}

// reload is `baton reload`. It asks for a reload, which gives an ID, and then how that reload ended.
func reload(c *call) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	ctx := context.Background()
	var a master.ReloadAnswer
	if err := client.Ask(ctx, http.MethodPost, "/reload?async=1", &a); err != nil {
		return err
	}
	target := fmt.Sprintf("/reload/%d", a.ID)
	if c.on("wait") {
		target += "?wait=drained"
	}
	if err := client.Ask(ctx, http.MethodGet, target, &a); err != nil {
		return err
	}
	if !a.OK {
		return &reloadError{a.Error}
	}
	served := fmt.Sprintf("generation %d serves", a.Generation)
	if id, err := client.Identify(ctx); err == nil && id.Version != "" { // a courtesy
		served += fmt.Sprintf(" (version %s)", id.Version)
	}
	c.say("%s", served)
	var s master.Status
	_ = client.Ask(ctx, http.MethodGet, "/status", &s) // without an answer, no warnings
	for _, l := range s.Listeners {
		if l.Error != "" {
			c.warn("warning: not on %s", listenerText(l))
		}
	}
	if c.on("wait") {
		cut := "nothing was cut"
		if a.CutRequests+a.CutConnections > 0 {
			cut = fmt.Sprintf("cut %s and %s", count(a.CutRequests, "request"), count(a.CutConnections, "connection"))
		}
		c.say("older generations are gone: %s", cut)
	}
	return nil
}

// resize is `baton resize N`.
func resize(c *call) error {
	const hint = "as baton resize 4"
	if len(c.args) == 0 {
		return &usageError{What: "resize: to how many workers?", Hint: hint}
	}
	n, err := parseNumber(c.args[0], master.MaxWorkers, "a number")
	if err != nil {
		return &usageError{What: fmt.Sprintf("resize: %v", err), Hint: hint}
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	var ignored []byte
	target := fmt.Sprintf("/resize?workers=%d", n)
	if err := client.Ask(context.Background(), http.MethodPost, target, &ignored); err != nil {
		return err
	}
	c.say("%s", count(n, "worker"))
	return nil
}

// stop is `baton stop`. It returns when the supervisor has exited, which is the last process of the tree.
func stop(c *call) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.Stop(context.Background()); err != nil {
		return err
	}
	c.say("stopped")
	return nil
}
