// Package site answers the routes of the ready binary: whoami, static files, a proxy, a fixed text, and an echo.
//
// A [Config] is data: the master reads it from a file, and every worker makes a handler of it with [New].
package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Config is what a site answers. Its zero value is a built-in page at "/" and whoami at "/whoami".
type Config struct {
	Routes []Route `json:"routes,omitempty"`

	// UpstreamTimeout is how long an upstream may take to begin its answer; beyond it the answer is 504. It is also how
	// long the upstream may pause within its answer, which is then broken off. If 0, for ever.
	UpstreamTimeout time.Duration `json:"upstream_timeout,omitempty"`

	// TrustedProxies are the clients whose X-Forwarded fields upstreams get: addresses, networks as 10.0.0.0/8, and
	// "unix:", which is whoever connects to a Unix socket. Those of all others are replaced.
	TrustedProxies []string `json:"trusted_proxies,omitempty"`

	// Log gets a line for each request that an upstream does not answer. If nil, it is slog.Default.
	Log *slog.Logger `json:"-"`

	// Observe, if not nil, is called when a request to an upstream has ended, with the status that the client has got,
	// if that says something about the upstream, and how long it took. r.Pattern is the path of the route. It must not
	// block.
	Observe func(r *http.Request, status int, took time.Duration) `json:"-"`

	// Relay, if not nil, passes on what is said to an upstream when the protocol has been switched: websocket.Relay.
	Relay func(ctx context.Context, protocol string, client, upstream io.ReadWriteCloser) `json:"-"`
}

// A Route is a path and one way to answer it: exactly one of Whoami, Static, Proxy, Program, Respond and Echo is set. A
// resource that can only be read has the methods GET, HEAD and OPTIONS, and no route has CONNECT and TRACE: other
// requests get 405.
type Route struct {
	// Path begins with "/". It answers itself and everything below it: "/api" answers "/api", "/api/" and "/api/v1",
	// but not "/apix". The longest path wins. Paths are compared decoded and clean: "/x/../api/" is "/api".
	Path string `json:"path"`

	// Whoami answers with one line of JSON: generation, slot, pid, version.
	Whoami bool `json:"whoami,omitempty"`

	// Static is a directory, for which Path stands: with the path "/docs", "/docs/a.html" is its file "a.html". A
	// directory is answered with its index.html, or with 403. Nothing outside of the directory is served, not even
	// through symbolic links, and only regular files are. A directory that replaces it is served within a second.
	Static string `json:"static,omitempty"`

	// Proxy is the URL to which the whole path of a request is appended. The upstream sees its own name as Host, and
	// the client's in X-Forwarded-Host, -For and -Proto.
	Proxy string `json:"proxy,omitempty"`

	// Program is the name of a program that answers. It sees the client's Host, and what Proxy says of X-Forwarded.
	Program string `json:"program,omitempty"`

	// Respond is a text, sent with Status (if 0, 200) and after Delay. With a status of success the route can only be
	// read; any other status answers every method.
	Respond *string       `json:"respond,omitempty"`
	Status  int           `json:"status,omitempty"`
	Delay   time.Duration `json:"delay,omitempty"`

	// Echo answers with the request's body, while it is still being read, whatever the method.
	Echo bool `json:"echo,omitempty"`
}

// Self is the process that answers, as whoami tells it.
type Self struct {
	Generation int    `json:"generation"`
	Slot       int    `json:"slot"`
	PID        int    `json:"pid"`
	Version    string `json:"version"`
}

// New returns the handler of cfg. It opens the directories, and leaves upstreams alone. programs are what answers
// routes with a Program, by name.
func New(cfg Config, self Self, programs map[string]http.Handler) (http.Handler, error) {
	if len(cfg.Routes) == 0 {
		return builtIn(self)
	}
	rt := router{routes: map[string]http.Handler{}}
	for _, r := range cfg.Routes {
		h, err := r.handler(cfg, self, programs)
		if err == nil {
			err = rt.add(r.Path, h)
		}
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Path, err)
		}
	}
	return noTunnel(&rt), nil
}

func (r Route) handler(cfg Config, self Self, programs map[string]http.Handler) (http.Handler, error) {
	switch {
	case !strings.HasPrefix(r.Path, "/"):
		return nil, errors.New("want a path that begins with /")
	case len(r.Actions()) != 1:
		return nil, errors.New("want one of whoami, static, proxy, program, respond and echo")
	case r.Whoami:
		return newWhoami(self)
	case r.Static != "":
		return newStatic(CleanPath(r.Path), r.Static)
	case r.Proxy != "":
		return newProxy(r.Proxy, cfg)
	case r.Program != "":
		h, ok := programs[r.Program]
		if !ok {
			return nil, fmt.Errorf("there is no program %q", r.Program)
		}
		return h, nil
	case r.Respond != nil:
		return newRespond(*r.Respond, r.Status, r.Delay), nil
	default:
		return http.HandlerFunc(echo), nil
	}
}

// Actions returns the names of the ways to answer that are set.
func (r Route) Actions() []string {
	var names []string
	for _, a := range []struct {
		name string
		set  bool
	}{
		{"whoami", r.Whoami},
		{"static", r.Static != ""},
		{"proxy", r.Proxy != ""},
		{"program", r.Program != ""},
		{"respond", r.Respond != nil},
		{"echo", r.Echo},
	} {
		if a.set {
			names = append(names, a.name)
		}
	}
	return names
}
