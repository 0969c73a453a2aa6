package main

import (
	"strings"

	"baton/cmd/baton/internal/config"
	"baton/master"
)

// serve is `baton run`. Supervisor and master run it, too.
func serve(c *call) error {
	l, err := newLoader(c)
	if err != nil {
		return err
	}
	opts := master.Options{Load: l.Load, Version: programVersion(), Explain: explain, Reason: reason}
	return exited(master.Run(opts, siteWorker()))
}

// check loads the configuration that run would load, and serves nothing.
func check(c *call) error {
	l, err := newLoader(c)
	if err != nil {
		return err
	}
	f, warnings, err := l.load(c.config)
	if err == nil {
		err = master.CheckHere(listensOf(&f), l.dir)
	}
	if err != nil {
		return err
	}
	for _, w := range warnings {
		c.warn("warning: %s", w)
	}
	if c.config == "" {
		c.say("ok: no config file, %s", summary(&f))
	} else {
		c.say("%s: ok, %s", c.config, summary(&f))
	}
	return nil
}

// summary says what would be served where.
func summary(f *config.File) string {
	var addresses []string
	for _, l := range f.Listen {
		addresses = append(addresses, l.Address)
	}
	what := "the built-in page"
	if n := len(f.Routes); n > 0 {
		what = count(int64(n), "route")
	}
	return what + " on " + strings.Join(addresses, ", ")
}
