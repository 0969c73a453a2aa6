package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"baton/master"
)

// reload is `baton reload`: it tells the truth about one reload.
func reload(args []string, u *ui) int {
	fs := newClientFlags("reload")
	var wait bool
	fs.BoolVar(&wait, "wait", false, "")
	if err := fs.parse(args, 0); err != nil {
		return u.failFlags(fs.flagSet, err)
	}
	c, err := fs.client()
	if err != nil {
		return u.fail(err)
	}
	return c.reload(context.Background(), wait, u)
}

// reload asks for a reload, which gives an ID, and then for what became of it.
func (c *client) reload(ctx context.Context, wait bool, u *ui) int {
	var a master.ReloadAnswer
	if err := c.ask(ctx, http.MethodPost, "/reload?async=1", &a); err != nil {
		return u.fail(err)
	}
	target := fmt.Sprintf("/reload/%d", a.ID)
	if wait {
		target += "?wait=drained"
	}
	if err := c.ask(ctx, http.MethodGet, target, &a); err != nil {
		return u.fail(err)
	}
	if !a.OK {
		u.warn("reload failed: %s", a.Error)
		u.hint("the generation before it serves on")
		return exitFailed
	}
	u.say("generation %d serves%s", a.Generation, c.servedVersion(ctx))
	var s master.Status
	_ = c.ask(ctx, http.MethodGet, "/status", &s) // without an answer, no warnings
	for _, l := range s.Listeners {
		if l.Error != "" {
			u.warn("warning: not on %s", listenerText(l))
		}
	}
	if wait {
		u.say("older generations are gone: %s", cutText(a.CutRequests, a.CutConnections))
	}
	return exitOK
}

// servedVersion is a courtesy: without an answer, nothing.
func (c *client) servedVersion(ctx context.Context) string {
	if id, err := c.hello(ctx); err == nil && id.Version != "" {
		return fmt.Sprintf(" (version %s)", id.Version)
	}
	return ""
}

func cutText(requests, connections int64) string {
	if requests == 0 && connections == 0 {
		return "nothing was cut"
	}
	return fmt.Sprintf("cut %s and %s", count(requests, "request"), count(connections, "connection"))
}

func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, strings.TrimSpace(what))
}
